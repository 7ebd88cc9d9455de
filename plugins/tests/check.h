// The few words that the host tests need: CHECK, CHECK_EQUAL and a count of failures as exit code.
#pragma once

#include <iostream>
#include <sstream>
#include <string>

namespace check {

inline int& failures() {
  static int count = 0;
  return count;
}

inline void report(bool holds, const char* what, const char* file, int line, const std::string& detail = "") {
  if (holds) return;
  ++failures();
  std::cerr << file << ":" << line << ": " << what << (detail.empty() ? "" : " — ") << detail << "\n";
}

template <typename A, typename B>
void equal(const A& a, const B& b, const char* what, const char* file, int line) {
  std::ostringstream detail;
  if (!(a == b)) detail << a << " is not " << b;
  report(a == b, what, file, line, detail.str());
}

inline int result(const char* name, int cases) {
  std::cout << name << ": " << cases << " cases, " << failures() << " failures\n";
  return failures() == 0 && cases > 0 ? 0 : 1;
}

}  // namespace check

#define CHECK(condition) check::report(static_cast<bool>(condition), #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(a, b) check::equal(a, b, #a " == " #b, __FILE__, __LINE__)
