package odograph.flink;

import static odograph.flink.Support.bytes;
import static odograph.flink.Support.row;
import static odograph.flink.Support.text;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.util.OneInputStreamOperatorTestHarness;
import org.apache.flink.table.data.RowData;
import org.junit.jupiter.api.Test;

class UnbatchRowsTest {
  private static final List<String> LAYOUTS = List.of("a:string", "b:long?", "c:bytes,d:int");

  private static byte[] stageOutput(Object[]... sections) throws Exception {
    ByteArrayOutputStream stageOutput = new ByteArrayOutputStream();
    for (Object[] section : sections) {
      int number = (int) section[0];
      ArrowBlockWriter writer = new ArrowBlockWriter(new Layout(LAYOUTS.get(number)));
      for (int i = 1; i < section.length; i++) {
        writer.add((RowData) section[i]);
      }
      byte[] block = writer.take();
      ByteBuffer head = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
      stageOutput.write(head.putInt(number).putInt(block.length).array());
      stageOutput.write(block);
    }
    return stageOutput.toByteArray();
  }

  @Test
  void sectionsGoToTheirOutputsInOrder() throws Exception {
    UnbatchRows operator = new UnbatchRows(LAYOUTS);
    try (var unbatch = new OneInputStreamOperatorTestHarness<byte[], RowData>(operator)) {
      unbatch.setup(new Layout(LAYOUTS.get(0)).typeInfo().toRowSerializer());
      unbatch.open();
      byte[] stageOutput =
          stageOutput(
              new Object[] {0, row("x"), row("y")},
              new Object[] {2, row(bytes("p"), 1), row(bytes(""), 2)},
              new Object[] {0, row("z")},
              new Object[] {1, row((Object) null), row(5L)});
      unbatch.processElement(new StreamRecord<>(stageOutput));
      unbatch.processElement(new StreamRecord<>(new byte[0]));
      Layout first = new Layout(LAYOUTS.get(0));
      List<String> main = new ArrayList<>();
      unbatch.extractOutputValues().forEach(row -> main.add(text(first, row)));
      assertEquals(List.of("x", "y", "z"), main);
      assertEquals(List.of("null", "5"), side(unbatch, operator, 1));
      assertEquals(List.of("p 1", " 2"), side(unbatch, operator, 2));
    }
  }

  private static List<String> side(
      OneInputStreamOperatorTestHarness<byte[], RowData> unbatch, UnbatchRows operator, int number) {
    List<String> texts = new ArrayList<>();
    Layout layout = new Layout(LAYOUTS.get(number));
    for (StreamRecord<RowData> row : unbatch.getSideOutput(operator.tag(number))) {
      texts.add(text(layout, row.getValue()));
    }
    return texts;
  }
}
