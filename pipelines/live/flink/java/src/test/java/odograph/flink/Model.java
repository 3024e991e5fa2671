package odograph.flink;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.StringJoiner;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.util.KeyedOneInputStreamOperatorTestHarness;
import org.apache.flink.table.data.RowData;

/**
 * Lets tests in other languages drive {@link TerminalUploads} by lines of text. Lists layouts, kinds
 * and the states of all operators first, up to an empty line; then answers each line of tab-separated values (time of
 * arrival, then {@link Upload}'s) with {@code quiet}, or the offsets of the dossier that went on.
 */
public final class Model {
  private static final int OFFSET = TerminalUploads.DOSSIER.at("offset");

  private Model() {}

  /** Arguments: how long uploads are remembered, the debounce and the reboot window, all in ms. */
  public static void main(String[] arguments) throws Exception {
    long keepMs = Long.parseLong(arguments[0]);
    long debounceMs = Long.parseLong(arguments[1]);
    long rebootMs = Long.parseLong(arguments[2]);
    PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    Layout.all().forEach((name, layout) -> out.println("layout " + name + "\t" + layout));
    out.println("kind SUSPECT\t" + TerminalHistory.SUSPECT);
    out.println("kind HISTORY\t" + TerminalHistory.HISTORY);
    out.println("type LOG\t" + TerminalHistory.LOG);
    states(out, new TerminalUploads(keepMs, 1, 1, 1, debounceMs, rebootMs));
    states(out, new MinuteCorrections(keepMs));
    states(out, new VehicleMinutes(keepMs, 1, 1));
    states(out, new WorkUnits(keepMs, true, 1, 1));
    out.println();
    out.flush();
    try (var dossiers =
        Support.opened(
            new TerminalUploads(keepMs, 1_000_000, 1 << 30, 1, debounceMs, rebootMs),
            new Keys.Text(TerminalUploads.LAYOUT, "device_no"),
            Support.BLOCKS,
            null)) {
      var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        out.println(answer(dossiers, line.split("\t", -1)));
        out.flush();
      }
    }
  }

  private static void states(PrintStream out, OneInputStreamOperator<RowData, ?> operator)
      throws Exception {
    String step = operator.getClass().getSimpleName();
    KeyedStates.of(operator)
        .forEach((name, kinds) -> out.println("state " + step + " " + name + "\t" + kinds));
  }

  private static String answer(
      KeyedOneInputStreamOperatorTestHarness<String, RowData, byte[]> dossiers, String[] values)
      throws Exception {
    long now = Long.parseLong(values[0]);
    Support.at(dossiers, now);
    dossiers.processElement(new StreamRecord<>(Upload.of(values).row()));
    if (dossiers.numProcessingTimeTimers() == 0) {
      return "quiet";
    }
    dossiers.setProcessingTime(now + 1);
    dossiers.prepareSnapshotPreBarrier(1);
    StringJoiner offsets = new StringJoiner(" ");
    for (byte[] block : Support.taken(dossiers)) {
      ArrowBlockReader reader = new ArrowBlockReader(TerminalUploads.DOSSIER, block, 0);
      for (int r = 0; r < reader.rows(); r++) {
        offsets.add(Long.toString(reader.row(r).getLong(OFFSET)));
      }
    }
    return offsets.toString();
  }
}
