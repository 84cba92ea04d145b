// Calls of kernels whose arguments lie where pointers say, as the driver's cuLaunchKernel takes them.

#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

template <typename... A, std::size_t... I>
void call_with(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*(std::remove_const_t<A> *)arguments[I]...);
}

template <typename... A> void call_with(void (*kernel)(A...), void **arguments) {
    call_with(kernel, arguments, std::index_sequence_for<A...>());
}
