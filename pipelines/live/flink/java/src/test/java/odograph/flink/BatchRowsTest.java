package odograph.flink;

import static odograph.flink.Support.row;
import static odograph.flink.Support.taken;
import static odograph.flink.Support.texts;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.util.ArrayList;
import java.util.List;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.util.OneInputStreamOperatorTestHarness;
import org.apache.flink.table.data.RowData;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class BatchRowsTest {
  private static final Layout LAYOUT = new Layout("text:string");
  private OneInputStreamOperatorTestHarness<RowData, byte[]> batch;

  @BeforeEach
  void open() throws Exception {
    batch = new OneInputStreamOperatorTestHarness<>(new BatchRows(LAYOUT, 3, 10, 100));
    batch.setup(Support.BLOCKS);
    batch.open();
  }

  @AfterEach
  void close() throws Exception {
    batch.close();
  }

  private void send(String... texts) throws Exception {
    for (String text : texts) {
      batch.processElement(new StreamRecord<>(row(text)));
    }
  }

  private List<List<String>> blocks() {
    List<List<String>> blocks = new ArrayList<>();
    for (byte[] block : taken(batch)) {
      blocks.add(texts(LAYOUT, block));
    }
    return blocks;
  }

  @Test
  void rowsGoOnWhenThereAreEnough() throws Exception {
    send("a", "b", "c", "d");
    assertEquals(List.of(List.of("a", "b", "c")), blocks());
  }

  @Test
  void rowsGoOnWhenTheyAreLargeEnough() throws Exception {
    send("aaaaaaaaaa", "b");
    assertEquals(List.of(List.of("aaaaaaaaaa")), blocks());
  }

  @Test
  void rowsGoOnAfterAWhileAndAgain() throws Exception {
    send("a");
    batch.setProcessingTime(99);
    assertEquals(List.of(), blocks());
    batch.setProcessingTime(100);
    assertEquals(List.of(List.of("a")), blocks());
    send("b");
    batch.setProcessingTime(200);
    assertEquals(List.of(List.of("b")), blocks());
  }

  @Test
  void rowsGoOnBeforeABarrierAndNoneAreKept() throws Exception {
    send("a");
    batch.prepareSnapshotPreBarrier(1);
    assertEquals(List.of(List.of("a")), blocks());
    assertFalse(batch.snapshot(1, 1).hasState());
  }

  @Test
  void rowsGoOnBeforeAWatermark() throws Exception {
    send("a");
    batch.processWatermark(7);
    List<Object> out = new ArrayList<>(batch.getOutput());
    assertEquals(2, out.size());
    assertEquals(new Watermark(7), out.get(1));
  }

  @Test
  void rowsGoOnAtTheEnd() throws Exception {
    send("a");
    batch.endInput();
    assertEquals(List.of(List.of("a")), blocks());
  }

  @Test
  void noBlockIsEmpty() throws Exception {
    batch.setProcessingTime(1000);
    batch.prepareSnapshotPreBarrier(1);
    batch.processWatermark(7);
    batch.endInput();
    assertEquals(1, batch.getOutput().size());
  }
}
