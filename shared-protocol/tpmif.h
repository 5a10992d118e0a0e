/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The shared page of the Xen paravirtual TPM, protocol version 2 (Xen: public/io/tpmif.h), for
 * kernel and user space.
 *
 * One page, granted by the frontend. Every field may be changed by the other side at any moment:
 * take one copy of the header, validate that, and never look at the page again for the same
 * message.
 */
#ifndef XEN_VTPM_TPMIF_H
#define XEN_VTPM_TPMIF_H

#include <linux/types.h>

#define TPMIF_PAGE_SIZE 4096

/*
 * Values of tpmif_header.state; published with release, read with acquire semantics. The frontend
 * writes only SUBMIT and CANCEL, the backend only IDLE and FINISH.
 */
#define TPMIF_STATE_IDLE 0	/* nothing here, or the cancelled command has ended */
#define TPMIF_STATE_SUBMIT 1	/* request ready, the backend works on it */
#define TPMIF_STATE_FINISH 2	/* response ready */
#define TPMIF_STATE_CANCEL 3	/* the frontend no longer wants the response */

struct tpmif_header {
	__u32 length;		/* request length in, response length out; bytes of the data area */
	__u8 state;		/* TPMIF_STATE_* */
	__u8 locality;		/* claimed by the frontend */
	__u8 pad;
	__u8 nr_extra_pages;	/* followed by as many __u32 grant references; nobody uses them */
};

/* Where the data area starts, for a header that was copied from the page. */
#define TPMIF_DATA_OFFSET(nr_extra_pages) (sizeof(struct tpmif_header) + 4u * (nr_extra_pages))

/* The largest message, with no extra pages. */
#define TPMIF_MAX_MESSAGE (TPMIF_PAGE_SIZE - sizeof(struct tpmif_header))

/*
 * A TPM message starts with tag (2), size (4), command or return code (4), big endian (TCG Part 1,
 * 18.1).
 */
#define TPM_MESSAGE_HEADER_SIZE 10
#define TPM_MESSAGE_SIZE_OFFSET 2
#define TPM_MESSAGE_CODE_OFFSET 6

/*
 * A vendor's command of a TPM 2.0 (TCG Part 2, 6.5.2): the event log of what was extended before
 * the guest ran. TPM_ST_NO_SESSIONS, size, code, offset (4). Response: size of the whole (4), 0 if
 * there is none, then the part from the offset on: its size (2), bytes.
 */
#define TPMIF_TPM2_CC_READ_EVENT_LOG 0x20005855

/* xenstore: the device's name in both trees, and the keys of both directories. */
#define TPMIF_DEVICE "vtpm"
#define TPMIF_KEY_RING_REF "ring-ref"
#define TPMIF_KEY_EVENT_CHANNEL "event-channel"
#define TPMIF_KEY_PROTOCOL_V2 "feature-protocol-v2"
#define TPMIF_KEY_STATE "state"

#endif
