// SPDX-License-Identifier: Apache-2.0
#include "manager/crypto/der.hpp"

#include <openssl/asn1.h>

#include "manager/crypto/x509.hpp"

namespace vtpm {

Bytes der_element(int tag, std::initializer_list<ByteView> contents) {
    std::size_t length = 0;
    for (const ByteView content : contents) length += content.size();
    const bool constructed = tag == V_ASN1_SEQUENCE || tag == V_ASN1_SET;
    const int size = ASN1_object_size(constructed, static_cast<int>(length), tag);
    require(size > 0, "an element of a certificate is small");
    Bytes der(static_cast<std::size_t>(size) - length);
    std::uint8_t *at = der.data();
    ASN1_put_object(&at, constructed, static_cast<int>(length), tag, V_ASN1_UNIVERSAL);
    for (const ByteView content : contents) der.insert(der.end(), content.begin(), content.end());
    return der;
}

Bytes der_integer(std::uint32_t value) {
    const Asn1Integer integer(ASN1_INTEGER_new());
    require(integer && ASN1_INTEGER_set_uint64(integer.get(), value) == 1, "there is memory for a number");
    return der_of(i2d_ASN1_INTEGER, integer.get());
}

Bytes der_object(const char *dotted) {
    const Asn1Object object(OBJ_txt2obj(dotted, 1));
    require(object != nullptr, "an object identifier is one");
    return der_of(i2d_ASN1_OBJECT, object.get());
}

}  // namespace vtpm
