package org.apache.flink.streaming.api.runners.python.beam;

import java.util.ArrayList;
import java.util.List;
import org.apache.beam.model.pipeline.v1.RunnerApi;
import org.apache.beam.runners.fnexecution.control.JobBundleFactory;
import org.apache.flink.python.env.PythonEnvironmentManager;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The Python process that the steps of a slot share, in place of PyFlink's class of this name.
 *
 * <p>Steps that are cancelled in the middle of a bundle leave references to the process. Whoever
 * closes it last drops them, and where another step drops its own at the same moment, Beam counts
 * below nothing and complains, when all is closed. PyFlink 2.2 lets that end the whole TaskManager
 * with every other job on it; here it is a line of the log. The jar of a job is looked at before
 * PyFlink's, unless that lies in the {@code lib} folder of the cluster.
 */
public final class PythonSharedResources implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(PythonSharedResources.class);
  private static final String DROPPED_TWICE = "Reference count must not be negative.";

  private final JobBundleFactory bundles;
  private final RunnerApi.Environment environment;
  private final List<PythonEnvironmentManager> managers = new ArrayList<>();

  PythonSharedResources(JobBundleFactory bundles, RunnerApi.Environment environment) {
    this.bundles = bundles;
    this.environment = environment;
  }

  JobBundleFactory getJobBundleFactory() {
    return bundles;
  }

  RunnerApi.Environment getEnvironment() {
    return environment;
  }

  synchronized void addPythonEnvironmentManager(PythonEnvironmentManager manager) {
    managers.add(manager);
  }

  @Override
  public synchronized void close() throws Exception {
    try {
      bundles.close();
    } catch (IllegalStateException error) {
      if (!DROPPED_TWICE.equals(error.getMessage())) {
        throw error;
      }
      LOG.warn("a step dropped its Python process while another closed it", error);
    } finally {
      for (PythonEnvironmentManager manager : managers) {
        manager.close();
      }
    }
  }
}
