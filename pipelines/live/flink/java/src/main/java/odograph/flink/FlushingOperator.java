package odograph.flink;

import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.BoundedOneInput;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;

/**
 * Collects rows into a block and hands it on after a time, before every checkpoint barrier and at
 * the end of input, so that what waits in it is never state.
 */
abstract class FlushingOperator extends AbstractStreamOperator<byte[]> implements BoundedOneInput {
  private static final long serialVersionUID = 1L;

  private final Layout columns;
  private final long flushMs;
  transient ArrowBlockWriter block;

  FlushingOperator(Layout columns, long flushMs) {
    this.columns = columns;
    this.flushMs = flushMs;
  }

  @Override
  public void open() throws Exception {
    super.open();
    block = new ArrowBlockWriter(columns);
    tick();
  }

  private void tick() {
    long next = getProcessingTimeService().getCurrentProcessingTime() + flushMs;
    getProcessingTimeService()
        .registerTimer(
            next,
            time -> {
              flush();
              tick();
            });
  }

  /** Hand on what waits. */
  void flush() throws Exception {
    if (block.rows() > 0) {
      output.collect(new StreamRecord<>(block.take()));
    }
  }

  @Override
  public void prepareSnapshotPreBarrier(long checkpointId) throws Exception {
    flush();
  }

  @Override
  public void endInput() throws Exception {
    flush();
  }
}
