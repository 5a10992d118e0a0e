/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between the kernels that the driver is built for: 6.1 and later. */
#ifndef XEN_TPMFRONT_COMPAT_H
#define XEN_TPMFRONT_COMPAT_H

#include <linux/version.h>

/* The send operation got the size of @buf, for chips that answer in it. */
#if KERNEL_VERSION(6, 17, 0) <= LINUX_VERSION_CODE
#define TPMFRONT_SEND \
	tpmfront_send(struct tpm_chip *chip, u8 *buf, size_t bufsiz, size_t length)
#else
#define TPMFRONT_SEND \
	tpmfront_send(struct tpm_chip *chip, u8 *buf, size_t length)
#endif

#endif
