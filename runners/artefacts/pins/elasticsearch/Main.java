package jdk.tools.jlink.internal;

import java.io.PrintWriter;

/** Named by Elasticsearch's entitlement rules; our Java runtime has no such tool. */
public final class Main {
    private Main() {
    }

    public static int run(PrintWriter out, PrintWriter err, String... arguments) {
        throw new UnsupportedOperationException();
    }
}
