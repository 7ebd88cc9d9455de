// A logger as the TensorRT of one major version lays it out, in a library that claims that version.
// Compiled once for each TENSORRT_MAJOR.
#include <string>

namespace {

std::string last_error;

#if TENSORRT_MAJOR >= 11
class Versioned {
 public:
  virtual int getAPILanguage() const noexcept { return 0; }
  virtual const char* getInterfaceInfo() const noexcept { return "mock"; }
  virtual ~Versioned() noexcept = default;
};
#else
class Versioned {};
#endif

class Logger : public Versioned {
 public:
  virtual void log(int severity, const char* message) noexcept {
    if (severity <= 1) last_error = message;
  }
  virtual ~Logger() = default;
} logger;

class Finder : public Versioned {
 public:
  virtual Logger* findLogger() { return &logger; }
  virtual ~Finder() = default;
} finder;

}  // namespace

extern "C" int getInferLibMajorVersion() noexcept { return TENSORRT_MAJOR; }
extern "C" void* logger_finder() { return &finder; }
extern "C" const char* logger_last_error() { return last_error.c_str(); }
extern "C" void logger_clear() { last_error.clear(); }
