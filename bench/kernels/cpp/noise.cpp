// The words and the normals are those of philox.py, operation by operation.

#include "loops.h"

namespace {

constexpr int64_t CHUNK = 1024;  // draws of a piece of work: they stay in the first cache

inline void philox(uint64_t key, uint32_t block, uint32_t word[4]) {
  uint32_t a = block, b = 0, c = 0, d = 0, low = uint32_t(key), high = uint32_t(key >> 32);
  for (int round = 0; round < ROUNDS; ++round) {
    const uint64_t left = uint64_t(a) * 0xD2511F53u, right = uint64_t(c) * 0xCD9E8D57u;
    a = uint32_t(right >> 32) ^ b ^ low, b = uint32_t(right);
    c = uint32_t(left >> 32) ^ d ^ high, d = uint32_t(left);
    low += 0x9E3779B9u, high += 0xBB67AE85u;
  }
  word[0] = a, word[1] = b, word[2] = c, word[3] = d;
}

template <class To, class From>
inline To bits(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline float logarithm(float u) {
  const int32_t shifted = bits<int32_t>(u) - 0x3F3504F3;
  const float exponent = float(shifted >> 23), x = bits<float>((shifted & 0x7FFFFF) + 0x3F3504F3) - 1.0f, z = x * x;
  float y = x * 7.0376836292e-2f + -1.1514610310e-1f;
  y = y * x + 1.1676998740e-1f;
  y = y * x + -1.2420140846e-1f;
  y = y * x + 1.4249322787e-1f;
  y = y * x + -1.6668057665e-1f;
  y = y * x + 2.0000714765e-1f;
  y = y * x + -2.4999993993e-1f;
  y = y * x + 3.3333331174e-1f;
  y = y * x * z + exponent * -2.12194440e-4f - z * 0.5f;
  return x + y + exponent * 0.693359375f;
}

inline void box_muller(uint32_t a, uint32_t b, float* pair) {
  const float u = float(int32_t(a >> 8)) * 0x1p-24f + (float(int32_t(a & 255)) * 0x1p-32f + 0x1p-33f);
  const float radius = std::sqrt(logarithm(u) * -2.0f);
  const float x = float(int32_t(b << 2) >> 8) * float(1.5707963267948966 * 0x1p-24), z = x * x;
  const float sine = ((z * -1.9515295891e-4f + 8.3321608736e-3f) * z + -1.6666654611e-1f) * z * x + x;
  const float cosine =
      ((z * 2.443315711809948e-5f + -1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - z * 0.5f + 1.0f;
  const uint32_t quadrant = (b + (1u << 29)) >> 30;
  const float first = quadrant & 1 ? sine : cosine, second = quadrant & 1 ? cosine : sine;
  pair[0] = radius * ((quadrant + 1) & 2 ? -first : first);
  pair[1] = radius * (quadrant & 2 ? -second : second);
}

void draw(uint64_t key, int64_t block, bool gaussian, float out[CHUNK]) {
  if (gaussian) {
    for (int64_t i = 0; i < CHUNK / 4; ++i) {
      uint32_t word[4];
      philox(key, uint32_t(block + i), word);
      box_muller(word[0], word[1], out + 4 * i);
      box_muller(word[2], word[3], out + 4 * i + 2);
    }
  } else {
    for (int64_t i = 0; i < CHUNK / 4; ++i) {
      uint32_t word[4];
      philox(key, uint32_t(block + i), word);
      for (int j = 0; j < 4; ++j) out[4 * i + j] = (float(int32_t(word[j] >> 8)) * 2 - 0xFFFFFF) * 0x1p-24f;
    }
  }
}

template <class T>
void noise(const T* text, const bool* mask, float scale, const int64_t* keys, bool gaussian, int64_t B, int64_t tokens,
           int64_t H, T* out, int64_t threads) {
  const int64_t count = tokens * H, chunks = (count + CHUNK - 1) / CHUNK;
  share(B * chunks, threads, [=](int64_t piece) {
    const int64_t example = piece / chunks, begin = piece % chunks * CHUNK, end = std::min(begin + CHUNK, count);
    const T* from = text + example * count;
    T* to = out + example * count;
    float drawn[CHUNK];
    bool ready = false;
    for (int64_t i = begin; i < end;) {
      const int64_t token = i / H, stop = std::min((token + 1) * H, end);
      if (mask[example * tokens + token]) {
        if (!ready) draw(uint64_t(keys[example]), begin / 4, gaussian, drawn);
        ready = true;
        for (int64_t j = i; j < stop; ++j) to[j] = from[j] + T(scale * drawn[j - begin]);
      } else {
        std::memcpy(to + i, from + i, (stop - i) * sizeof(T));
      }
      i = stop;
    }
  });
}

}  // namespace

#define EXPORT(T, NAME)                                                                                              \
  extern "C" void NAME(const T* text, const bool* mask, float scale, const int64_t* keys, bool gaussian, int64_t B,  \
                       int64_t tokens, int64_t H, T* out, int64_t threads) {                                         \
    noise(text, mask, scale, keys, gaussian, B, tokens, H, out, threads);                                            \
  }
EXPORT(float, noise_float32)
EXPORT(double, noise_float64)
