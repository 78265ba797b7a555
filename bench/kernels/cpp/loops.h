// What the compiled forms share. They are loops over contiguous memory and compute what their references in Python tell,
// in T, which is float or double. Sums run in 16 lanes whatever the machine has, and then in double.

#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

constexpr int64_t LANES = 16;

// work(0) .. work(pieces - 1), each by one of `threads`.
template <class Work>
void share(int64_t pieces, int64_t threads, Work work) {
  std::atomic<int64_t> next{0};
  auto run = [&] {
    for (int64_t piece; (piece = next++) < pieces;) work(piece);
  };
  std::vector<std::thread> others;
  for (int64_t i = 1; i < threads && i < pieces; ++i) others.emplace_back(run);
  run();
  for (auto& other : others) other.join();
}

// The sum of term(i) over 0 .. count - 1.
template <class T, class Term>
double sum(int64_t count, Term term) {
  T lane[LANES] = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int64_t j = 0; j < LANES; ++j) lane[j] += term(i + j);
  double total = 0;
  for (; i < count; ++i) total += term(i);
  for (int64_t j = 0; j < LANES; ++j) total += lane[j];
  return total;
}
