package odograph.flink;

import static odograph.flink.Support.bytes;
import static odograph.flink.Support.row;
import static odograph.flink.Support.text;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.apache.flink.api.common.functions.util.ListCollector;
import org.apache.flink.table.data.RowData;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.record.TimestampType;
import org.junit.jupiter.api.Test;

class KafkaTest {
  private static final Header[] HEADERS = {
    new RecordHeader("a", bytes("1")),
    new RecordHeader("", null),
    new RecordHeader("größe", bytes("")),
    new RecordHeader("a", bytes("again")),
  };

  private static RowData read(byte[] key, byte[] value, Header... headers) {
    List<RowData> rows = new ArrayList<>();
    var record =
        new ConsumerRecord<>(
            "message-log", 3, 42L, 1234L, TimestampType.CREATE_TIME, 0, 0, key, value,
            new RecordHeaders(headers), Optional.empty());
    new Kafka.Reader().deserialize(record, new ListCollector<>(rows));
    assertEquals(1, rows.size());
    return rows.get(0);
  }

  @Test
  void packedHeadersAreUnpackedAsTheyWere() {
    assertArrayEquals(HEADERS, Kafka.unpacked(Kafka.packed(HEADERS)));
  }

  @Test
  void noHeadersAreNoBytes() {
    assertNull(Kafka.packed(new Header[0]));
    assertEquals(0, Kafka.unpacked(new byte[0]).length);
  }

  @Test
  void aRecordIsReadWithItsExactBytes() {
    Layout layout = Kafka.DEVICE_RECORD;
    assertEquals(
        "message-log 3 42 1234 k v null", text(layout, read(bytes("k"), bytes("v"))));
    assertEquals("message-log 3 42 1234 null null null", text(layout, read(null, null)));
    assertArrayEquals(Kafka.packed(HEADERS), read(null, null, HEADERS).getBinary(6));
  }

  @Test
  void aRecordIsWrittenAsTheRowSays() {
    RowData row = row("out", 77L, bytes("k"), bytes("v"), Kafka.packed(HEADERS));
    var record = new Kafka.Writer().serialize(row, null, 1L);
    assertEquals("out", record.topic());
    assertNull(record.partition());
    assertEquals(77L, record.timestamp());
    assertArrayEquals(bytes("k"), record.key());
    assertArrayEquals(bytes("v"), record.value());
    assertArrayEquals(HEADERS, record.headers().toArray());
  }

  @Test
  void aRecordMayBeATombstone() {
    var record = new Kafka.Writer().serialize(row("out", null, bytes("k"), null, null), null, 1L);
    assertNull(record.timestamp());
    assertNull(record.value());
    assertEquals(0, record.headers().toArray().length);
  }
}
