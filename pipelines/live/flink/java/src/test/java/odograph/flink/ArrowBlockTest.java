package odograph.flink;

import static odograph.flink.Support.bytes;
import static odograph.flink.Support.row;
import static odograph.flink.Support.text;
import static odograph.flink.Support.texts;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.apache.flink.table.data.RowData;
import org.junit.jupiter.api.Test;

class ArrowBlockTest {
  private static final Layout ALL =
      new Layout(
          "a:string,b:bytes,c:long,d:int,e:byte,f:string?,g:bytes?,h:long?,i:int?,j:byte?");

  private static void isReadAsWritten(List<RowData> rows) {
    ArrowBlockWriter writer = new ArrowBlockWriter(ALL);
    List<String> expected = new ArrayList<>();
    for (RowData row : rows) {
      writer.add(row);
      expected.add(text(ALL, row));
    }
    assertEquals(rows.size(), writer.rows());
    assertEquals(expected, texts(ALL, writer.take()));
    assertEquals(0, writer.rows());
    assertEquals(0, writer.bytes());
  }

  private static RowData full(String text, long number) {
    byte[] bytes = bytes(text);
    int small = (int) number;
    return row(
        text, bytes, number, small, (byte) number, text, bytes, number, small, (byte) number);
  }

  private static RowData sparse(String text, long number) {
    byte[] bytes = bytes(text);
    return row(text, bytes, number, (int) number, (byte) number, null, null, null, null, null);
  }

  @Test
  void allKindsAreReadAsWritten() {
    isReadAsWritten(List.of(full("straße", 1), full("車", -1), full("x", Long.MAX_VALUE)));
    isReadAsWritten(List.of(full("y", Long.MIN_VALUE)));
  }

  @Test
  void nullsStayNullAndEmptyTextsStayEmpty() {
    isReadAsWritten(List.of(full("", 0), sparse("", 0), sparse("a", 1), full("", 2)));
  }

  @Test
  void aBlockMayHoldNoRows() {
    isReadAsWritten(List.of());
  }

  @Test
  void aBlockGrowsBeyondWhatWasReserved() {
    List<RowData> rows = new ArrayList<>();
    Random chance = new Random(1);
    for (int i = 0; i < 3000; i++) {
      String text = "x".repeat(chance.nextInt(40));
      rows.add(chance.nextBoolean() ? full(text, chance.nextLong()) : sparse(text, i));
    }
    rows.add(full("y".repeat(100_000), 7));
    isReadAsWritten(rows);
  }

  @Test
  void aWriterForgetsWhatItHandedOut() {
    ArrowBlockWriter writer = new ArrowBlockWriter(ALL);
    for (int i = 0; i < 300; i++) {
      writer.add(full("longer", i));
    }
    writer.take();
    writer.add(sparse("z", 5));
    writer.add(full("", 6));
    byte[] again = writer.take();
    ArrowBlockWriter fresh = new ArrowBlockWriter(ALL);
    fresh.add(sparse("z", 5));
    fresh.add(full("", 6));
    assertArrayEquals(fresh.take(), again);
  }

  @Test
  void columnsLieInBlocksAsArrowLaysThem() {
    ArrowBlockWriter writer = new ArrowBlockWriter(new Layout("a:string?,b:int"));
    writer.add(row("hi", 1));
    writer.add(row(null, 2));
    writer.add(row("x", 3));
    ByteBuffer block = ByteBuffer.wrap(writer.take()).order(ByteOrder.LITTLE_ENDIAN);
    assertEquals(3, block.getLong(0));
    assertEquals(0b101, block.get(8));
    assertEquals(List.of(0, 2, 2, 3), List.of(block.getInt(16), block.getInt(20), block.getInt(24), block.getInt(28)));
    assertEquals("hix", new String(block.array(), 32, 3));
    assertEquals(List.of(1, 2, 3), List.of(block.getInt(40), block.getInt(44), block.getInt(48)));
    assertEquals(56, block.capacity());
  }

  @Test
  void aBlockIsReadFromWithinAParcel() {
    Layout layout = new Layout("a:string,b:long?");
    ArrowBlockWriter writer = new ArrowBlockWriter(layout);
    writer.add(row("in", 9L));
    byte[] block = writer.take();
    byte[] stageOutput = new byte[block.length + 24];
    System.arraycopy(block, 0, stageOutput, 8, block.length);
    assertEquals("in 9", text(layout, new ArrowBlockReader(layout, stageOutput, 8).row(0)));
  }

  @Test
  void aColumnThatIsNoneIsNamed() {
    var raised = assertThrows(IllegalArgumentException.class, () -> ALL.at("odd"));
    assertEquals("no column odd among a, b, c, d, e, f, g, h, i, j", raised.getMessage());
  }
}
