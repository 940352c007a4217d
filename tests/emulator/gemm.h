// A matrix product as work of a stream. It has a beginning and an end, between which other streams may run: then its output is garbage and its workspace
// is its own.
#pragma once
#include "machine.h"

namespace emulator {

struct Matrix {  // column-major
  Address at;
  size_t ld;             // elements
  int64_t batch_stride;  // elements
  size_t elements;       // from the first to the last, over the whole batch
};

struct Gemm {
  size_t m = 0, n = 0, k = 0;
  unsigned batch = 1;
  bool transpose_a = false, transpose_b = false;
  bool wide = false;  // C and D are f32, else bf16
  float alpha = 1, beta = 0;
  Matrix a = {}, b = {}, c = {}, d = {};
};

/// Elements from the first to the last of one matrix of a batch.
inline size_t span(const Gemm&, uint64_t columns, uint64_t rows, int64_t ld) { return size_t((columns - 1) * uint64_t(ld) + rows); }

struct Product {
  Gemm gemm;
  Address workspace = 0;
  size_t workspace_bytes = 0;
  uint64_t stamp = 0;  // what this run wrote to the workspace

  void begin();
  void end();
};

struct ProductBegin : Action {
  std::shared_ptr<Product> product;
  explicit ProductBegin(std::shared_ptr<Product> p) : product(std::move(p)) {}
  void run() override { product->begin(); }
};

struct ProductEnd : Action {
  std::shared_ptr<Product> product;
  explicit ProductEnd(std::shared_ptr<Product> p) : product(std::move(p)) {}
  void run() override { product->end(); }
};

}  // namespace emulator
