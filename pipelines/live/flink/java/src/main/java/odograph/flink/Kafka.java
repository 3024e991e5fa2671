package odograph.flink;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetResetStrategy;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** Kafka records as rows, with their exact bytes, and rows as Kafka records. */
public final class Kafka {
  /** Columns of a record of a device topic. */
  public static final Layout DEVICE_RECORD = Layout.of("device_record");

  /** Columns of a record to write; its timestamp is that of the upload it came from. */
  public static final Layout OUT_RECORD = Layout.of("out_record");

  private Kafka() {}

  /** {@code startAt}: earliest, latest, committed, or epoch milliseconds as a number. */
  public static KafkaSource<RowData> source(
      List<String> topics, Map<String, String> properties, String startAt) {
    return KafkaSource.<RowData>builder()
        .setTopics(topics)
        .setProperties(all(properties))
        .setStartingOffsets(starting(startAt))
        .setDeserializer(new Reader())
        .build();
  }

  private static OffsetsInitializer starting(String startAt) {
    switch (startAt) {
      case "earliest":
        return OffsetsInitializer.earliest();
      case "latest":
        return OffsetsInitializer.latest();
      case "committed":
        return OffsetsInitializer.committedOffsets(OffsetResetStrategy.EARLIEST);
      default:
        return OffsetsInitializer.timestamp(Long.parseLong(startAt));
    }
  }

  /** A transactional sink: what is read committed holds every record once. */
  public static KafkaSink<RowData> sink(Map<String, String> properties, String transactions) {
    return KafkaSink.<RowData>builder()
        .setKafkaProducerConfig(all(properties))
        .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
        .setTransactionalIdPrefix(transactions)
        .setRecordSerializer(new Writer())
        .build();
  }

  private static Properties all(Map<String, String> given) {
    Properties properties = new Properties();
    properties.putAll(given);
    return properties;
  }

  static final class Reader implements KafkaRecordDeserializationSchema<RowData> {
    private static final long serialVersionUID = 1L;
    private static final int TOPIC = DEVICE_RECORD.at("topic");
    private static final int PARTITION = DEVICE_RECORD.at("partition");
    private static final int OFFSET = DEVICE_RECORD.at("offset");
    private static final int TIMESTAMP = DEVICE_RECORD.at("timestamp");
    private static final int KEY = DEVICE_RECORD.at("key");
    private static final int VALUE = DEVICE_RECORD.at("value");
    private static final int HEADERS = DEVICE_RECORD.at("headers");
    private transient Map<String, StringData> topics;

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<RowData> out) {
      if (topics == null) {
        topics = new HashMap<>();
      }
      GenericRowData row = new GenericRowData(DEVICE_RECORD.size());
      row.setField(TOPIC, topics.computeIfAbsent(record.topic(), StringData::fromString));
      row.setField(PARTITION, record.partition());
      row.setField(OFFSET, record.offset());
      row.setField(TIMESTAMP, record.timestamp());
      row.setField(KEY, record.key());
      row.setField(VALUE, record.value());
      row.setField(HEADERS, packed(record.headers().toArray()));
      out.collect(row);
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
      return DEVICE_RECORD.typeInfo();
    }
  }

  static final class Writer implements KafkaRecordSerializationSchema<RowData> {
    private static final long serialVersionUID = 1L;
    private static final int TOPIC = OUT_RECORD.at("topic");
    private static final int TIMESTAMP = OUT_RECORD.at("timestamp");
    private static final int KEY = OUT_RECORD.at("key");
    private static final int VALUE = OUT_RECORD.at("value");
    private static final int HEADERS = OUT_RECORD.at("headers");

    @Override
    public ProducerRecord<byte[], byte[]> serialize(
        RowData row, KafkaSinkContext context, Long timestamp) {
      return new ProducerRecord<>(
          row.getString(TOPIC).toString(),
          null,
          row.isNullAt(TIMESTAMP) ? null : row.getLong(TIMESTAMP),
          row.isNullAt(KEY) ? null : row.getBinary(KEY),
          row.isNullAt(VALUE) ? null : row.getBinary(VALUE),
          row.isNullAt(HEADERS) ? null : List.of(unpacked(row.getBinary(HEADERS))));
    }
  }

  /** Headers one after another: int32 length and name, int32 length (-1 null) and value. */
  static byte[] packed(Header[] headers) {
    if (headers.length == 0) {
      return null;
    }
    int size = 0;
    byte[][] names = new byte[headers.length][];
    for (int i = 0; i < headers.length; i++) {
      names[i] = headers[i].key().getBytes(StandardCharsets.UTF_8);
      byte[] value = headers[i].value();
      size += 8 + names[i].length + (value == null ? 0 : value.length);
    }
    ByteBuffer out = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < headers.length; i++) {
      byte[] value = headers[i].value();
      out.putInt(names[i].length).put(names[i]).putInt(value == null ? -1 : value.length);
      if (value != null) {
        out.put(value);
      }
    }
    return out.array();
  }

  static Header[] unpacked(byte[] packed) {
    List<Header> headers = new java.util.ArrayList<>();
    ByteBuffer in = ByteBuffer.wrap(packed).order(ByteOrder.LITTLE_ENDIAN);
    while (in.hasRemaining()) {
      byte[] name = new byte[in.getInt()];
      in.get(name);
      int length = in.getInt();
      byte[] value = length < 0 ? null : new byte[length];
      if (value != null) {
        in.get(value);
      }
      headers.add(new RecordHeader(new String(name, StandardCharsets.UTF_8), value));
    }
    return headers.toArray(new Header[0]);
  }
}
