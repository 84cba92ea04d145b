// Those of candle's own kernels that are used: its names and arguments, and the plainest code that does the same.
//
// `info` holds the sizes of the dimensions and, behind them, the strides of each input; without it values lie one after
// another.

#include <cmath>
#include <cstdint>

#include "kernel.h"

using std::size_t;

static size_t strided(size_t i, size_t dims, const size_t *sizes, const size_t *strides) {
    size_t place = 0;
    for (size_t d = dims; d-- > 0;) {
        place += i % sizes[d] * strides[d];
        i /= sizes[d];
    }
    return place;
}

// Where the i-th value of an input lies, the inputs counted from 0.
static size_t place(size_t i, size_t dims, const size_t *info, size_t input) {
    return info ? strided(i, dims, info, info + (1 + input) * dims) : i;
}

#define FUNCTION(Name, expression)                                                                                    \
    struct Name {                                                                                                     \
        template <typename T> static T of(T x) { return expression; }                                                 \
    };
FUNCTION(Copy, x)
FUNCTION(Negative, -x)
FUNCTION(Exponential, std::exp(x))
FUNCTION(Logarithm, std::log(x))
FUNCTION(Root, std::sqrt(x))
FUNCTION(Square, x * x)
FUNCTION(Round, std::round(x))
FUNCTION(Positive, x > 0 ? x : 0)

// In place where there is no input.
template <typename T, typename F>
static void unary(size_t count, size_t dims, const size_t *info, const T *x, T *y) {
    for (size_t i = 0; i < count; i++) y[i] = F::of(x ? x[place(i, dims, info, 0)] : y[i]);
}

template <typename T>
static void affine(size_t count, size_t dims, const size_t *info, const T *x, T *y, T factor, T term) {
    for (size_t i = 0; i < count; i++) y[i] = (x ? x[place(i, dims, info, 0)] : y[i]) * factor + term;
}

template <typename From, typename To>
static void cast(size_t count, size_t dims, const size_t *info, const From *x, To *y) {
    for (size_t i = 0; i < count; i++) y[i] = (To)x[place(i, dims, info, 0)];
}

#define OPERATION(Name, expression)                                                                                   \
    struct Name {                                                                                                     \
        template <typename T> static auto of(T x, T y) { return expression; }                                         \
    };
OPERATION(Sum, x + y)
OPERATION(Difference, x - y)
OPERATION(Product, x *y)
OPERATION(Quotient, x / y)
OPERATION(Larger, x > y ? x : y)
OPERATION(Equal, (std::uint8_t)(x == y))
OPERATION(Greater, (std::uint8_t)(x > y))
OPERATION(GreaterOrEqual, (std::uint8_t)(x >= y))
OPERATION(Less, (std::uint8_t)(x < y))
OPERATION(LessOrEqual, (std::uint8_t)(x <= y))

template <typename T, typename To, typename F>
static void binary(size_t count, size_t dims, const size_t *info, const T *x, const T *y, To *z) {
    for (size_t i = 0; i < count; i++) z[i] = F::of(x[place(i, dims, info, 0)], y[place(i, dims, info, 1)]);
}

template <typename Choice, typename T>
static void where(size_t count, size_t dims, const size_t *info, const Choice *choices, const T *x, const T *y, T *z) {
    for (size_t i = 0; i < count; i++) {
        bool first = choices[place(i, dims, info, 0)] != 0;
        z[i] = first ? x[place(i, dims, info, 1)] : y[place(i, dims, info, 2)];
    }
}

template <typename T> static void set(size_t count, size_t dims, const size_t *info, T value, T *y) {
    for (size_t i = 0; i < count; i++) y[place(i, dims, info, 0)] = value;
}

template <typename T>
static void copy_rows(const T *from, T *to, unsigned int rows, unsigned int columns, unsigned int from_row,
                      unsigned int to_row) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) to[i * to_row + j] = from[i * from_row + j];
    }
}

// Of `length` values each; `count` is the number of all values.
template <typename T>
static void sums(size_t count, size_t length, size_t dims, const size_t *info, const T *x, T *y) {
    for (size_t i = 0; i < count / length; i++) {
        double sum = 0;
        for (size_t j = 0; j < length; j++) sum += x[place(i * length + j, dims, info, 0)];
        y[i] = (T)sum;
    }
}

// Of few values each; here `count` is the number of sums.
template <typename T>
static void short_sums(size_t count, size_t length, size_t dims, const size_t *info, const T *x, T *y) {
    sums(count * length, length, dims, info, x, y);
}

// Which of `length` values comes first in an order, from place `begin`.
template <typename T, typename Before>
static size_t first_of(size_t begin, size_t length, size_t dims, const size_t *info, const T *x) {
    size_t best = 0;
    for (size_t j = 1; j < length; j++) {
        T one = x[place(begin + j, dims, info, 0)], other = x[place(begin + best, dims, info, 0)];
        if (Before::of(one, other)) best = j;
    }
    return best;
}

template <typename T, typename Before>
static void extremes(size_t count, size_t length, size_t dims, const size_t *info, const T *x, T *y) {
    for (size_t i = 0; i < count / length; i++) {
        y[i] = x[place(i * length + first_of<T, Before>(i * length, length, dims, info, x), dims, info, 0)];
    }
}

template <typename T, typename Before>
static void places_of_extremes(size_t count, size_t length, size_t dims, const size_t *info, const T *x,
                               std::uint32_t *y) {
    for (size_t i = 0; i < count / length; i++) {
        y[i] = (std::uint32_t)first_of<T, Before>(i * length, length, dims, info, x);
    }
}

template <typename Index, typename T>
static void gather(size_t count, const Index *indices, const T *x, T *y, size_t, size_t x_size, size_t index_size,
                   size_t right) {
    for (size_t i = 0; i < count; i++) {
        size_t left = i / (right * index_size);
        y[i] = x[(left * x_size + (size_t)indices[i]) * right + i % right];
    }
}

// `info` is of the indices, which candle takes to lie one after another.
template <typename Index, typename T>
static void select_rows(size_t count, size_t, const size_t *, const Index *indices, const T *x, T *y, size_t,
                        size_t x_size, size_t index_size, size_t right) {
    for (size_t i = 0; i < count; i++) {
        size_t left = i / (right * index_size), index = (size_t)indices[i / right % index_size];
        y[i] = x[(left * x_size + index) * right + i % right];
    }
}

template <typename Index, typename T>
static void scatter_add(const Index *indices, const T *x, T *y, size_t left, size_t x_size, size_t y_size,
                        size_t right) {
    for (size_t i = 0; i < left * x_size * right; i++) {
        y[(i / (x_size * right) * y_size + (size_t)indices[i]) * right + i % right] += x[i];
    }
}

template <typename Index, typename T>
static void index_add(const Index *indices, size_t count, const T *x, T *y, size_t left, size_t, size_t y_size,
                      size_t right) {
    for (size_t i = 0; i < left * count * right; i++) {
        y[(i / (count * right) * y_size + (size_t)indices[i / right % count]) * right + i % right] += x[i];
    }
}

#define KERNEL(name, ...) whole_launch(name, __VA_ARGS__)
#define FLOATS(name, function)                                                                                        \
    KERNEL(name "_f32", function<float>), KERNEL(name "_f64", function<double>)
#define UNARY(name, F) KERNEL(name "_f32", unary<float, F>), KERNEL(name "_f64", unary<double, F>)
#define BINARY(name, F) KERNEL(name "_f32", binary<float, float, F>), KERNEL(name "_f64", binary<double, double, F>)
#define EXTREMES(name, Before)                                                                                        \
    KERNEL("fast_" name "_f32", extremes<float, Before>), KERNEL("fast_" name "_f64", extremes<double, Before>),      \
        KERNEL("fast_arg" name "_f32", places_of_extremes<float, Before>),                                            \
        KERNEL("fast_arg" name "_f64", places_of_extremes<double, Before>)
#define COMPARISON(name, F)                                                                                           \
    KERNEL(name "_f32", binary<float, std::uint8_t, F>), KERNEL(name "_f64", binary<double, std::uint8_t, F>)

static std::vector<SimulatedKernel> candle_kernels() {
    using u8 = std::uint8_t;
    using u32 = std::uint32_t;
    using i64 = std::int64_t;
    return {
        UNARY("ucopy", Copy), KERNEL("ucopy_u8", unary<u8, Copy>), KERNEL("ucopy_u32", unary<u32, Copy>),
        KERNEL("ucopy_i64", unary<i64, Copy>), FLOATS("copy2d", copy_rows),
        FLOATS("const_set", set), KERNEL("const_set_u8", set<u8>), KERNEL("const_set_u32", set<u32>),
        KERNEL("const_set_i64", set<i64>),

        UNARY("uneg", Negative), UNARY("uexp", Exponential), UNARY("ulog", Logarithm), UNARY("usqrt", Root),
        UNARY("usqr", Square), UNARY("uround", Round), UNARY("urelu", Positive), FLOATS("affine", affine),

        BINARY("badd", Sum), KERNEL("badd_i64", binary<i64, i64, Sum>), BINARY("bsub", Difference),
        BINARY("bmul", Product), BINARY("bdiv", Quotient), BINARY("bmaximum", Larger),
        COMPARISON("eq", Equal), COMPARISON("gt", Greater), COMPARISON("ge", GreaterOrEqual),
        COMPARISON("lt", Less), COMPARISON("le", LessOrEqual),
        KERNEL("where_u8_f32", where<u8, float>), KERNEL("where_u8_f64", where<u8, double>),

        FLOATS("fast_sum", sums), FLOATS("fast_sum_small", short_sums), EXTREMES("max", Greater), EXTREMES("min", Less),

        KERNEL("gather_u32_f32", gather<u32, float>), KERNEL("gather_u32_f64", gather<u32, double>),
        KERNEL("gather_i64_f32", gather<i64, float>),
        KERNEL("is_u32_f32", select_rows<u32, float>), KERNEL("is_u32_f64", select_rows<u32, double>),
        KERNEL("ia_u32_f32", index_add<u32, float>), KERNEL("ia_u32_f64", index_add<u32, double>),
        KERNEL("sa_u32_f32", scatter_add<u32, float>), KERNEL("sa_u32_f64", scatter_add<u32, double>),

        KERNEL("cast_u8_f32", cast<u8, float>), KERNEL("cast_u32_f32", cast<u32, float>),
        KERNEL("cast_u32_f64", cast<u32, double>), KERNEL("cast_i64_f64", cast<i64, double>),
        KERNEL("cast_f32_f64", cast<float, double>), KERNEL("cast_f64_f32", cast<double, float>),
        KERNEL("cast_u32_u8", cast<u32, u8>), KERNEL("cast_u32_i64", cast<u32, i64>),
        KERNEL("cast_f32_u8", cast<float, u8>),
    };
}

const SimulatedKernel *find_candle_kernel(const std::string &name) {
    static const std::vector<SimulatedKernel> kernels = candle_kernels();
    for (const SimulatedKernel &kernel : kernels) {
        if (kernel.name == name) return &kernel;
    }
    return nullptr;
}
