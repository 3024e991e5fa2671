package com.sun.tools.jdi;

import com.sun.jdi.VirtualMachineManager;

/** Named by Elasticsearch's entitlement rules; our Java runtime has no such tool. */
public final class VirtualMachineManagerImpl implements VirtualMachineManager {
    private VirtualMachineManagerImpl() {
    }

    public static VirtualMachineManager virtualMachineManager() {
        throw new UnsupportedOperationException();
    }
}
