package odograph.flink;

import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.BoundedOneInput;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.RowData;

/**
 * Rows into blocks. Holds no state: flushed before every checkpoint barrier and watermark, at the
 * end of input, at a number of rows or bytes, and after a time.
 */
public final class Batch extends AbstractStreamOperator<byte[]>
    implements OneInputStreamOperator<RowData, byte[]>, BoundedOneInput {
  private static final long serialVersionUID = 1L;

  private final Layout layout;
  private final int maxRows;
  private final long maxBytes;
  private final long maxMs;
  private transient BlockWriter block;

  public Batch(String layout, int maxRows, long maxBytes, long maxMs) {
    this.layout = new Layout(layout);
    this.maxRows = maxRows;
    this.maxBytes = maxBytes;
    this.maxMs = maxMs;
  }

  @Override
  public void open() throws Exception {
    super.open();
    block = new BlockWriter(layout);
    tick();
  }

  private void tick() {
    long next = getProcessingTimeService().getCurrentProcessingTime() + maxMs;
    getProcessingTimeService()
        .registerTimer(
            next,
            time -> {
              flush();
              tick();
            });
  }

  @Override
  public void processElement(StreamRecord<RowData> element) {
    block.add(element.getValue());
    if (block.rows() >= maxRows || block.bytes() >= maxBytes) {
      flush();
    }
  }

  private void flush() {
    if (block.rows() > 0) {
      output.collect(new StreamRecord<>(block.take()));
    }
  }

  @Override
  public void prepareSnapshotPreBarrier(long checkpointId) {
    flush();
  }

  @Override
  public void processWatermark(Watermark mark) throws Exception {
    flush();
    super.processWatermark(mark);
  }

  @Override
  public void endInput() {
    flush();
  }
}
