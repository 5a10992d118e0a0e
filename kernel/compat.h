/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between the kernels that the driver is built for: 6.1 and later. */
#ifndef XEN_TPMFRONT_COMPAT_H
#define XEN_TPMFRONT_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#include <linux/unaligned.h>
#else
#include <asm/unaligned.h>
#endif

/* The send operation got the size of the buffer, for chips that answer at once. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
#define TPMFRONT_SEND_ARGS(buffer, length) buffer, size_t bufsiz, length
#else
#define TPMFRONT_SEND_ARGS(buffer, length) buffer, length
#endif

#endif
