package jdk.tools.jlink.internal;

/** Named by Elasticsearch's entitlement rules; our Java runtime has no such tool. */
public final class Jlink {
}
