// SPDX-License-Identifier: Apache-2.0
// DER (X.690) of the few structures that OpenSSL has no type for.
#pragma once

#include <initializer_list>

#include "base/bytes.hpp"

namespace vtpm {

// `contents` one after the other; `tag` is a universal one, such as V_ASN1_SEQUENCE.
Bytes der_element(int tag, std::initializer_list<ByteView> contents);
Bytes der_integer(std::uint32_t value);
// Of an object identifier like "2.23.133.2.16".
Bytes der_object(const char *dotted);

// What `i2d`, a function of OpenSSL's such as i2d_X509, makes of `object`. Empty if it fails.
template <typename I2d, typename T>
Bytes der_of(I2d i2d, T *object) {
    const int size = i2d(object, nullptr);
    Bytes der(size > 0 ? static_cast<std::size_t>(size) : 0);
    std::uint8_t *at = der.data();
    if (!der.empty() && i2d(object, &at) != size) der.clear();
    return der;
}

}  // namespace vtpm
