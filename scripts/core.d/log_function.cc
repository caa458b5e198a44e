/*
 * gpr_set_log_function() for releases of gRPC's core that do not have it any more (1.66 and newer),
 * which log through abseil: it is compiled with them, and has the lines of abseil's log sent to the
 * function in place of stderr.
 *
 * As before 1.66, only errors are logged unless GRPC_VERBOSITY or GRPC_TRACE says otherwise.
 */
#include <atomic>
#include <cstdlib>
#include <string>

#include "absl/base/log_severity.h"
#include "absl/log/globals.h"
#include "absl/log/initialize.h"
#include "absl/log/log_entry.h"
#include "absl/log/log_sink.h"
#include "absl/log/log_sink_registry.h"

#include <grpc/support/log.h>

/* As <grpc/support/log.h> of older versions has it. */
struct gpr_log_func_args {
  const char* file;
  int line;
  gpr_log_severity severity;
  const char* message;
};
typedef void (*gpr_log_func)(gpr_log_func_args* args);

namespace {

std::atomic<gpr_log_func> log_function{nullptr};

class Sink : public absl::LogSink {
 public:
  void Send(const absl::LogEntry& entry) override {
    gpr_log_func function = log_function.load(std::memory_order_acquire);
    if (function == nullptr) return;
    const std::string file(entry.source_filename());
    const std::string message(entry.text_message());
    gpr_log_func_args args = {file.c_str(), entry.source_line(), severity(entry), message.c_str()};
    function(&args);
  }

 private:
  static gpr_log_severity severity(const absl::LogEntry& entry) {
    if (entry.verbosity() != absl::LogEntry::kNoVerbosityLevel) {
      return GPR_LOG_SEVERITY_DEBUG;
    }
    return entry.log_severity() >= absl::LogSeverity::kError ? GPR_LOG_SEVERITY_ERROR
                                                             : GPR_LOG_SEVERITY_INFO;
  }
};

bool has(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

void begin() {
  absl::InitializeLog();
  // What ends the process goes to stderr as well.
  absl::SetStderrThreshold(absl::LogSeverityAtLeast::kFatal);
  if (!has("GRPC_VERBOSITY") && !has("GRPC_TRACE")) {
    absl::SetMinLogLevel(absl::LogSeverityAtLeast::kError);
  }
  // Never deleted: threads may log while the process ends.
  absl::AddLogSink(new Sink);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void gpr_set_log_function(gpr_log_func function) {
  static const bool begun = (begin(), true);
  (void)begun;
  log_function.store(function, std::memory_order_release);
}
