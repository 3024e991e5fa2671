package org.apache.flink.streaming.api.runners.python.beam;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.reflect.Proxy;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.beam.model.pipeline.v1.RunnerApi;
import org.apache.beam.runners.fnexecution.control.JobBundleFactory;
import org.apache.flink.python.env.PythonEnvironmentManager;
import org.junit.jupiter.api.Test;

class PythonSharedResourcesTest {
  private final AtomicInteger closed = new AtomicInteger();

  private PythonSharedResources shared(String complaint) {
    JobBundleFactory bundles =
        proxy(JobBundleFactory.class, new IllegalStateException(complaint));
    PythonSharedResources shared =
        new PythonSharedResources(bundles, RunnerApi.Environment.getDefaultInstance());
    shared.addPythonEnvironmentManager(proxy(PythonEnvironmentManager.class, null));
    return shared;
  }

  private <T> T proxy(Class<T> type, Exception failure) {
    Object made =
        Proxy.newProxyInstance(
            type.getClassLoader(),
            new Class<?>[] {type},
            (self, method, arguments) -> {
              closed.incrementAndGet();
              if (failure != null) {
                throw failure;
              }
              return null;
            });
    return type.cast(made);
  }

  @Test
  void aProcessThatTwoStepsDropIsClosedAndNothingElseEnds() throws Exception {
    shared("Reference count must not be negative.").close();
    assertEquals(2, closed.get());
  }

  @Test
  void anyOtherFailureIsToldWhenAllIsClosed() {
    assertThrows(IllegalStateException.class, () -> shared("another").close());
    assertEquals(2, closed.get());
  }
}
