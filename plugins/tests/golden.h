// Reads the cases that golden.py writes.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace golden {

struct Array {
  std::string type;
  std::vector<int64_t> shape;
  std::vector<char> bytes;

  int64_t size() const {
    int64_t count = 1;
    for (int64_t length : shape) count *= length;
    return count;
  }
  int dimension(size_t axis) const { return static_cast<int>(shape.at(axis)); }
  template <typename T>
  const T* data() const {
    return reinterpret_cast<const T*>(bytes.data());
  }
};

using Case = std::map<std::string, Array>;

inline int64_t type_size(const std::string& type) {
  if (type == "float16" || type == "bfloat16") return 2;
  if (type == "float32") return 4;
  if (type == "int64") return 8;
  throw std::runtime_error("unknown type " + type);
}

inline std::vector<Case> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<Case> cases(1);
  std::string line;
  while (std::getline(file, line)) {
    if (line == "end") {
      cases.emplace_back();
      continue;
    }
    std::istringstream header(line);
    std::string name;
    Array array;
    header >> name >> array.type;
    for (int64_t length; header >> length;) array.shape.push_back(length);
    array.bytes.resize(static_cast<size_t>(array.size() * type_size(array.type)));
    if (!file.read(array.bytes.data(), static_cast<std::streamsize>(array.bytes.size())))
      throw std::runtime_error(path + " ends in the middle of " + name);
    cases.back()[name] = std::move(array);
  }
  cases.pop_back();
  if (cases.empty()) throw std::runtime_error(path + " holds no case");
  return cases;
}

}  // namespace golden
