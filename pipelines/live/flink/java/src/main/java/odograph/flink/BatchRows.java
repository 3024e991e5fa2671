package odograph.flink;

import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.RowData;

/**
 * Rows into blocks. Holds no state: flushed before every checkpoint barrier and watermark, at the
 * end of input, at a number of rows or bytes, and after a time.
 */
public final class BatchRows extends FlushingOperator implements OneInputStreamOperator<RowData, byte[]> {
  private static final long serialVersionUID = 1L;

  private final int maxRows;
  private final long maxBytes;

  public BatchRows(Layout layout, int maxRows, long maxBytes, long maxMs) {
    super(layout, maxMs);
    this.maxRows = maxRows;
    this.maxBytes = maxBytes;
  }

  @Override
  public void processElement(StreamRecord<RowData> element) throws Exception {
    block.add(element.getValue());
    if (block.rows() >= maxRows || block.bytes() >= maxBytes) {
      flush();
    }
  }

  @Override
  public void processWatermark(Watermark mark) throws Exception {
    flush();
    super.processWatermark(mark);
  }
}
