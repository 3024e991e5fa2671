package com.sun.jdi;

/** Named by Elasticsearch's entitlement rules; our Java runtime has no such tool. */
public interface VirtualMachineManager {
}
