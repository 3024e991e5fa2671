package odograph.flink;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.RowData;
import org.apache.flink.util.OutputTag;

/**
 * What a Python stage returned into rows. A stage output is a sequence of sections: int32 number of the
 * output, int32 length, block. Output 0 is the main one, the others are side outputs.
 */
public final class UnbatchRows extends AbstractStreamOperator<RowData>
    implements OneInputStreamOperator<byte[], RowData> {
  private static final long serialVersionUID = 1L;

  private final List<Layout> layouts = new ArrayList<>();
  private final List<OutputTag<RowData>> tags = new ArrayList<>();

  public UnbatchRows(List<String> layouts) {
    for (String text : layouts) {
      Layout layout = new Layout(text);
      tags.add(new OutputTag<>("output-" + tags.size(), layout.typeInfo()));
      this.layouts.add(layout);
    }
  }

  public OutputTag<RowData> tag(int output) {
    return tags.get(output);
  }

  @Override
  public void processElement(StreamRecord<byte[]> element) {
    byte[] bytes = element.getValue();
    ByteBuffer head = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    int at = 0;
    while (at < bytes.length) {
      int number = head.getInt(at);
      int length = head.getInt(at + 4);
      ArrowBlockReader block = new ArrowBlockReader(layouts.get(number), bytes, at + 8);
      for (int r = 0; r < block.rows(); r++) {
        StreamRecord<RowData> row = new StreamRecord<>(block.row(r));
        if (number == 0) {
          output.collect(row);
        } else {
          output.collect(tags.get(number), row);
        }
      }
      at += 8 + length;
    }
  }
}
