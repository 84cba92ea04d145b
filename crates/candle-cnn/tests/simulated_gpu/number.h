// Numbers as libraries take them: of several types, computed with in double precision.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

enum class Type { F32, F64, BF16 };

inline std::uint32_t bits_of(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline double load(const void *values, std::size_t i, Type type) {
    switch (type) {
    case Type::F32: return ((const float *)values)[i];
    case Type::F64: return ((const double *)values)[i];
    case Type::BF16: break;
    }
    return float_of((std::uint32_t)((const std::uint16_t *)values)[i] << 16);
}

inline void store(void *values, std::size_t i, Type type, double value) {
    switch (type) {
    case Type::F32: ((float *)values)[i] = (float)value; return;
    case Type::F64: ((double *)values)[i] = value; return;
    case Type::BF16: break;
    }
    // To the nearest, ties to even.
    std::uint32_t bits = bits_of((float)value);
    ((std::uint16_t *)values)[i] = (std::uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Of a float's 23 bits behind the point TF32 keeps 10.
inline double as_tf32(double value) {
    std::uint32_t bits = bits_of((float)value);
    return float_of((bits + 0xfff + (bits >> 13 & 1)) & ~std::uint32_t(0x1fff));
}
