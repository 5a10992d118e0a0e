// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frontend of the Xen paravirtual TPM: TPM 2.0 and TPM 1.2.
 *
 * One page is shared with the backend (shared-protocol/tpmif.h). The backend is trusted for
 * answers, never for memory safety: each response is copied out of the page once and judged by the
 * copy, and every wait has an end.
 *
 * The chip lives as long as the xenbus device. The ring may go and come back: with a suspended
 * domain, or with a backend that closes and offers itself again.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/efi.h>
#include <linux/err.h>
#include <linux/freezer.h>
#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/kref.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pid_namespace.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/tpm_eventlog.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <asm/sync_bitops.h>
#include <xen/events.h>
#include <xen/grant_table.h>
#include <xen/platform_pci.h>
#include <xen/xen.h>
#include <xen/xenbus.h>

#include "compat.h"
#include "tpm_core.h"
#include "tpmif.h"

/*
 * The durations of the TPM core are those of a chip of its own; a virtual TPM also waits for a
 * processor and for the disk in the backend's domain. No command is given up earlier than this.
 */
#define MIN_COMMAND_SECONDS 10
/* A command of the probe also waits for the backend to start the TPM. */
#define PROBE_SECONDS 30
/* How long a command may wait for a backend that has not connected yet: it may be dead. */
#define CONNECT_SECONDS 15
/* How long a backend may take to offer a device again that was closed. */
#define OFFER_SECONDS 5
/* How long a guest that is to be suspended waits for commands: the freezer gives up after 20. */
#define FREEZE_SECONDS 5
/* How long it then waits for one that was given up: libxl gives the whole suspend 60. */
#define SUSPEND_SECONDS 20
/* Handles that are to be flushed; a TPM 2.0 has three objects and three sessions loaded. */
#define MAX_ORPHANS 16
/* The most that is taken for an event log, and the most digests of one event in it. */
#define MAX_EVENT_LOG (64 * 1024)
#define MAX_LOG_DIGESTS 16
/* Part 2, 6.6.3: "not now", the command was not executed. */
#define RC_WARNING_MASK 0xf80
#define RC_WARNING 0x900
/* TPMA_CC: a command of the TPM's maker, with a code of the same form. */
#define CC_ATTR_VENDOR BIT(29)

/* Lives as long as somebody reads it. */
struct event_log {
	struct kref users;
	size_t size;
	u8 data[];
};

struct tpmfront {
	struct xenbus_device *dev;
	struct tpm_chip *chip;
	/*
	 * The backend's directory; ours, since xenbus replaces its own at a resume. @ring_lock, and
	 * not while @look_work may run.
	 */
	char *backend;
	/* What the TPM core said of the chip; set by probe() or by @register_work. */
	bool registered;
	bool refused;
	/* The driver is being unbound. */
	bool leaving;
	/* The TPM core is being told of it; a command that fails meanwhile costs the chip. */
	bool registering;
	/* Nobody has answered in time so far; the interrupt of a late answer has it tried again. */
	bool unanswered;
	struct work_struct register_work;

	/* Held for the whole of a command and while the ring is made or freed. */
	struct mutex ring_lock;
	wait_queue_head_t wait;
	/* Looks at the backend for who waits, and what it saw. */
	struct work_struct look_work;
	enum xenbus_state seen;
	/*
	 * The backend has left, or is to be left: whoever waits must return, nobody may start.
	 * Written with or without @ring_lock, so that a waiter that holds it can be told.
	 */
	bool lost;

	/* Of the ring; under @ring_lock. */
	struct tpmif_header *page;
	grant_ref_t ring_ref;
	int irq;

	/* Of the command; under @ring_lock, but for the interrupt's part in @submitted. */
	bool submitted; /* and not answered yet */
	/* When a command first met the freezer, and when one last did. */
	unsigned long freezing_since;
	unsigned long freezing_seen;
	u8 response[TPMIF_MAX_MESSAGE];
	size_t response_size;
	/* Of a command that was given up and may still be in the page; 0: there is none. */
	u32 late_ordinal;
	/* Handles that nobody knows any more. */
	__be32 orphans[MAX_ORPHANS];
	unsigned int orphan_count;

	/* What was measured into this TPM before we ran; set with @registered. */
	struct dentry *log_directory;
	struct dentry *log_file;

	/* For people; under @ring_lock, but for the interrupts'. */
	struct dentry *debugfs;
	unsigned long commands;
	unsigned long failures;
	unsigned long malformed;
	unsigned long late;
	unsigned long rings;
	atomic_long_t interrupts;
	atomic_long_t spurious;
};

static struct dentry *debugfs_root;

/* The drvdata of the xenbus device is the chip, where the TPM core expects it. */
static struct tpmfront *front_of_chip(struct tpm_chip *chip)
{
	return dev_get_drvdata(&chip->dev);
}

static struct tpmfront *front_of(struct xenbus_device *dev)
{
	struct tpm_chip *chip = dev_get_drvdata(&dev->dev);

	return chip ? front_of_chip(chip) : NULL;
}

static u8 page_state(const struct tpmfront *front)
{
	/*
	 * Pairs with the backend's release: what it wrote before the state is visible after it.
	 * virt_: the other side is another domain, so a kernel for one processor needs it too.
	 */
	return virt_load_acquire(&front->page->state);
}

static bool page_is_ours(const struct tpmfront *front)
{
	u8 state = page_state(front);

	return state == TPMIF_STATE_IDLE || state == TPMIF_STATE_FINISH;
}

static bool page_is_ours_or_lost(const struct tpmfront *front)
{
	return READ_ONCE(front->lost) || page_is_ours(front);
}

/* Not while the guest is suspended: the chip would lose its ring in the middle of it. */
static void queue_registration(struct tpmfront *front)
{
	queue_work(system_freezable_wq, &front->register_work);
}

/*
 * A spurious event costs the backend, not us: the event channel then stays masked for longer and
 * longer. The answer of a command is not spurious, whether or not its caller sleeps already.
 */
static irqreturn_t tpmfront_interrupt(int irq, void *data)
{
	struct tpmfront *front = data;
	bool ours = page_is_ours(front);
	bool awaited = ours && READ_ONCE(front->submitted);

	atomic_long_inc(awaited ? &front->interrupts : &front->spurious);
	if (awaited) {
		WRITE_ONCE(front->submitted, false);
		if (READ_ONCE(front->unanswered))
			queue_registration(front);
	}
	if (ours)
		wake_up(&front->wait);
	xen_irq_lateeoi(irq, awaited ? 0 : XEN_EOI_FLAG_SPURIOUS);
	return IRQ_HANDLED;
}

/* Asks the backend to stop. It may do so (IDLE), or finish the command all the same (FINISH). */
static void cancel_command(struct tpmfront *front)
{
	u8 *state = &front->page->state;

	/* sync_: it is locked on a kernel for one processor too, or FINISH could be overwritten. */
	if (sync_cmpxchg(state, TPMIF_STATE_SUBMIT, TPMIF_STATE_CANCEL) == TPMIF_STATE_SUBMIT)
		notify_remote_via_irq(front->irq);
}

static enum xenbus_state backend_state(const char *backend)
{
	return xenbus_read_unsigned(backend, TPMIF_KEY_STATE, XenbusStateUnknown);
}

static bool has_left(enum xenbus_state state)
{
	switch (state) {
	case XenbusStateInitialising:
	case XenbusStateInitWait:
	case XenbusStateInitialised:
	case XenbusStateConnected:
		return false;
	default:
		return true;
	}
}

/* Nobody waits for this but who closes the ring: xenstore may hang. */
static void look_at_backend(struct work_struct *work)
{
	struct tpmfront *front = container_of(work, struct tpmfront, look_work);

	WRITE_ONCE(front->seen, backend_state(front->backend));
}

/*
 * xenbus tells a driver of its backend's state only when probe() has returned, and from a thread
 * that may be busy with another device: a wait that takes long looks for itself.
 */
static bool is_hopeless(struct tpmfront *front, unsigned long began)
{
	enum xenbus_state state = READ_ONCE(front->seen);

	schedule_work(&front->look_work);
	if (has_left(state))
		return true;
	return state != XenbusStateConnected && time_after(jiffies, began + CONNECT_SECONDS * HZ);
}

/*
 * Whether the guest is about to be suspended, and this command may be given up for it. Asked of
 * init: a command may run in a worker of the TPM core or in hwrng's thread, which no freezer looks
 * at, while others wait for them. A chip that is being registered would be lost for good.
 */
static bool is_freezing(const struct tpmfront *front)
{
	return !READ_ONCE(front->registering) && !(current->flags & PF_SUSPEND_TASK) &&
	       freezing(init_pid_ns.child_reaper);
}

/* Unbound, or at power-off: people wait, and the TPM core for the command under way. */
static bool is_leaving(const struct tpmfront *front)
{
	return READ_ONCE(front->leaving) || system_state > SYSTEM_RUNNING;
}

/*
 * A command that has had FREEZE_SECONDS has no more, and all together have so many, or those that
 * queue would have them one after the other. Whoever waits looks once a second: after a longer
 * pause it is another suspend.
 */
static bool freezer_presses(struct tpmfront *front, unsigned long began)
{
	if (!is_freezing(front))
		return false;
	if (!front->freezing_since || time_after(jiffies, front->freezing_seen + 2 * HZ))
		front->freezing_since = jiffies;
	front->freezing_seen = jiffies;
	return time_after(jiffies, began + FREEZE_SECONDS * HZ) ||
	       time_after(jiffies, front->freezing_since + FREEZE_SECONDS * HZ);
}

/*
 * Until the backend has given the page back. No signal ends it: whoever is killed would leave the
 * TPM's slots to the handles that only the answer tells, and the TPM core, which flushes them in
 * the dying task, would be refused. What does end it: time, the backend's end, and a freezer that
 * would give up the suspend for a command that takes long.
 */
static int wait_for_page(struct tpmfront *front, unsigned long deadline)
{
	unsigned long began = jiffies;

	WRITE_ONCE(front->seen, XenbusStateConnected);
	while (!wait_event_idle_timeout(front->wait, page_is_ours_or_lost(front), HZ)) {
		if (time_after(jiffies, deadline))
			return -ETIME;
		if (freezer_presses(front, began))
			return -ETIME;
		if (is_leaving(front) && time_after(jiffies, began + MIN_COMMAND_SECONDS * HZ))
			return -ETIME;
		if (is_hopeless(front, began))
			return -EIO;
	}
	return READ_ONCE(front->lost) ? -EIO : 0;
}

static void forget_response(struct tpmfront *front)
{
	memzero_explicit(front->response, front->response_size);
	front->response_size = 0;
}

/* Copies the response out of the page, then looks at the copy only. */
static int take_response(struct tpmfront *front)
{
	union {
		u64 raw;
		struct tpmif_header fields;
	} snapshot = { .raw = READ_ONCE(*(u64 *)front->page) };
	const struct tpmif_header header = snapshot.fields;
	u32 length = header.length;

	if (header.nr_extra_pages || length < TPM_HEADER_SIZE || length > TPMIF_MAX_MESSAGE)
		return -EPROTO;
	memcpy(front->response, (u8 *)front->page + TPMIF_DATA_OFFSET(0), length);
	front->response_size = length;
	if (be32_to_cpu(((const struct tpm_header *)front->response)->length) == length)
		return 0;
	forget_response(front);
	return -EPROTO;
}

static void submit_request(struct tpmfront *front, const u8 *request, size_t length)
{
	struct tpmif_header *page = front->page;

	memcpy((u8 *)page + TPMIF_DATA_OFFSET(0), request, length);
	page->length = length;
	page->locality = 0;
	page->pad = 0;
	page->nr_extra_pages = 0;
	WRITE_ONCE(front->submitted, true);
	/* The request is complete before the backend can see that there is one. */
	virt_store_release(&page->state, TPMIF_STATE_SUBMIT);
	notify_remote_via_irq(front->irq);
}

/* Nothing of a request or a response stays in memory that another domain can read. */
static void wipe_page(struct tpmfront *front)
{
	if (page_is_ours(front))
		memzero_explicit((u8 *)front->page + TPMIF_DATA_OFFSET(0), TPMIF_MAX_MESSAGE);
}

/*
 * Whether the answer to a command begins with the handle of an object or a session: TPMA_CC, TCG
 * Part 2, 8.9. A TPM 1.2 has no such table.
 */
static bool returns_handle(const struct tpm_chip *chip, u32 ordinal)
{
	const u32 code = CC_ATTR_VENDOR | GENMASK(15, 0);
	unsigned int i;

	for (i = 0; i < chip->nr_commands; i++) {
		if ((chip->cc_attrs_tbl[i] & code) == ordinal)
			return chip->cc_attrs_tbl[i] & BIT(TPM2_CC_ATTR_RHANDLE);
	}
	return false;
}

static u32 ordinal_of(const u8 *message)
{
	return be32_to_cpu(((const struct tpm_header *)message)->ordinal);
}

static bool is_flush(const u8 *request, size_t length)
{
	return ordinal_of(request) == TPM2_CC_FLUSH_CONTEXT &&
	       length == TPM_HEADER_SIZE + sizeof(__be32);
}

/* The TPM core flushes a handle more than once where one attempt fails. */
static void add_orphan(struct tpmfront *front, const u8 *handle)
{
	unsigned int i;

	for (i = 0; i < front->orphan_count; i++) {
		if (!memcmp(&front->orphans[i], handle, sizeof(__be32)))
			return;
	}
	if (i < MAX_ORPHANS) {
		memcpy(&front->orphans[i], handle, sizeof(__be32));
		front->orphan_count++;
	}
}

/* One command, with the page ours before it; on success also after it. */
static int run_command(struct tpmfront *front, const u8 *request, size_t length,
		       unsigned long deadline)
{
	int err;

	submit_request(front, request, length);
	err = wait_for_page(front, deadline);
	/* An answer that came with the end of the ring, or of our patience, counts. */
	if (err && !page_is_ours(front)) {
		front->late++;
		front->late_ordinal = ordinal_of(request);
		cancel_command(front);
		return err;
	}
	WRITE_ONCE(front->submitted, false);
	err = page_state(front) == TPMIF_STATE_FINISH ? take_response(front) : -ECANCELED;
	wipe_page(front);
	if (err == -EPROTO) {
		front->malformed++;
		dev_err_ratelimited(&front->dev->dev, "malformed response from the backend\n");
	}
	return err;
}

/* The answer of a command that was given up. Its caller heard of an error, and cannot use it. */
static void take_late_response(struct tpmfront *front)
{
	if (!front->late_ordinal)
		return;
	if (page_state(front) == TPMIF_STATE_FINISH && !take_response(front) &&
	    front->response_size >= TPM_HEADER_SIZE + sizeof(__be32) &&
	    !ordinal_of(front->response) && returns_handle(front->chip, front->late_ordinal))
		add_orphan(front, front->response + TPM_HEADER_SIZE);
	front->late_ordinal = 0;
	forget_response(front);
	wipe_page(front);
}

/*
 * Before any other command, which might make an object with the same handle. Those of objects that
 * are gone do no harm: the TPM says so. It may also say "not now", to others as well.
 */
static int flush_orphans(struct tpmfront *front, unsigned long deadline)
{
	struct {
		struct tpm_header header;
		__be32 handle;
	} __packed flush = {
		.header.tag = cpu_to_be16(TPM2_ST_NO_SESSIONS),
		.header.length = cpu_to_be32(sizeof(flush)),
		.header.ordinal = cpu_to_be32(TPM2_CC_FLUSH_CONTEXT),
	};
	int err;

	while (front->orphan_count) {
		flush.handle = front->orphans[front->orphan_count - 1];
		err = run_command(front, (u8 *)&flush, sizeof(flush), deadline);
		if (!err && (ordinal_of(front->response) & RC_WARNING_MASK) == RC_WARNING)
			err = -EAGAIN;
		forget_response(front);
		/* A backend that answers nonsense is not asked for ever. */
		if (err && err != -EPROTO)
			return err;
		front->orphan_count--;
	}
	return 0;
}

/*
 * A command that was given up may still be running, and must leave nothing in the TPM that nobody
 * can name: three objects, and nobody could make another one.
 */
static int settle_page(struct tpmfront *front, unsigned long deadline)
{
	int err = wait_for_page(front, deadline);

	if (err)
		return err;
	take_late_response(front);
	return flush_orphans(front, deadline);
}

static int exchange(struct tpmfront *front, const u8 *request, size_t length,
		    unsigned long timeout)
{
	int err;

	if (READ_ONCE(front->lost) || !front->page)
		return -EIO;
	/* One after the other would wait for a command that somebody has given up already. */
	if (front->late_ordinal && !page_is_ours(front) &&
	    (is_freezing(front) || is_leaving(front) || is_flush(request, length)))
		return -ETIME;
	if (freezer_presses(front, jiffies))
		return -ETIME;
	err = settle_page(front, jiffies + min_t(unsigned long, timeout, MIN_COMMAND_SECONDS * HZ));
	if (err)
		return err;
	return run_command(front, request, length, jiffies + timeout);
}

static unsigned long command_timeout(struct tpmfront *front, u32 ordinal)
{
	/* What the core would say of a chip that it does not know yet is two minutes. */
	if (!READ_ONCE(front->registered))
		return PROBE_SECONDS * HZ;
	/* It has two minutes for this one too, in which unbind and reboot would seem to hang. */
	if (ordinal == TPM2_CC_SHUTDOWN)
		return MIN_COMMAND_SECONDS * HZ;
	return max_t(unsigned long, MIN_COMMAND_SECONDS * HZ,
		     tpm_calc_ordinal_duration(front->chip, ordinal));
}

static int transmit(struct tpmfront *front, const u8 *request, size_t length,
		    unsigned long timeout)
{
	int err;

	mutex_lock(&front->ring_lock);
	forget_response(front);
	err = exchange(front, request, length, timeout);
	/* Also one that was sent: it may have been cancelled before it ran. */
	if (err && is_flush(request, length))
		add_orphan(front, request + TPM_HEADER_SIZE);
	front->commands++;
	if (err)
		front->failures++;
	mutex_unlock(&front->ring_lock);
	return err;
}

/*
 * The whole exchange happens in here, so that the TPM core never has a reason to poll: see
 * tpmfront_status().
 */
static int TPMFRONT_SEND
{
	struct tpmfront *front = front_of_chip(chip);
	const struct tpm_header *header = (const struct tpm_header *)buf;

	if (length < TPM_HEADER_SIZE || length > TPMIF_MAX_MESSAGE)
		return -EINVAL;
	return transmit(front, buf, length, command_timeout(front, be32_to_cpu(header->ordinal)));
}

static int tpmfront_recv(struct tpm_chip *chip, u8 *buf, size_t size)
{
	struct tpmfront *front = front_of_chip(chip);
	size_t length;
	int ret = -EIO;

	mutex_lock(&front->ring_lock);
	length = front->response_size;
	if (length && length <= size) {
		memcpy(buf, front->response, length);
		ret = length;
	}
	forget_response(front);
	mutex_unlock(&front->ring_lock);
	return ret;
}

/* The core calls this when its own patience ends, which is never: status() says "complete". */
static void tpmfront_cancel(struct tpm_chip *chip)
{
}

/*
 * With a complete mask of 0 the core takes any status as "response ready", which it is when send()
 * has returned.
 */
static u8 tpmfront_status(struct tpm_chip *chip)
{
	return 0;
}

static bool tpmfront_req_canceled(struct tpm_chip *chip, u8 status)
{
	return false;
}

static const struct tpm_class_ops tpmfront_ops = {
	.flags = TPM_OPS_AUTO_STARTUP,
	.req_complete_mask = 0,
	.req_complete_val = 0,
	.req_canceled = tpmfront_req_canceled,
	.send = tpmfront_send,
	.recv = tpmfront_recv,
	.cancel = tpmfront_cancel,
	.status = tpmfront_status,
};

/*
 * With the state: xenbus looks at it when one of these keys has changed, and takes Initialising for
 * another device's if dev->state has gone on by then (Linux 7.2). xenbus_switch_state() says it
 * again, and sets dev->state.
 */
static int publish_ring(struct tpmfront *front, evtchn_port_t port)
{
	struct xenbus_device *dev = front->dev;
	struct xenbus_transaction xbt;
	int err;

	do {
		err = xenbus_transaction_start(&xbt);
		if (err)
			return err;
		err = xenbus_printf(xbt, dev->nodename, TPMIF_KEY_RING_REF, "%u", front->ring_ref);
		if (!err)
			err = xenbus_printf(xbt, dev->nodename, TPMIF_KEY_EVENT_CHANNEL, "%u",
					    port);
		if (!err)
			err = xenbus_printf(xbt, dev->nodename, TPMIF_KEY_PROTOCOL_V2, "1");
		if (!err)
			err = xenbus_printf(xbt, dev->nodename, TPMIF_KEY_STATE, "%d",
					    XenbusStateInitialised);
		if (err) {
			xenbus_transaction_end(xbt, 1);
			return err;
		}
		err = xenbus_transaction_end(xbt, 0);
	} while (err == -EAGAIN);
	return err;
}

static int bind_event_channel(struct tpmfront *front, evtchn_port_t *port)
{
	int err = xenbus_alloc_evtchn(front->dev, port);

	if (err)
		return err;
	err = bind_evtchn_to_irqhandler_lateeoi(*port, tpmfront_interrupt, 0, "xen-tpmfront",
						front);
	if (err < 0) {
		xenbus_free_evtchn(front->dev, *port);
		return err;
	}
	front->irq = err;
	return 0;
}

/* The interrupt goes first: its handler reads the page. */
static void close_ring(struct tpmfront *front)
{
	if (front->irq)
		unbind_from_irqhandler(front->irq, front);
	front->irq = 0;
	if (front->page) {
		memzero_explicit(front->page, TPMIF_PAGE_SIZE);
		xenbus_teardown_ring((void **)&front->page, 1, &front->ring_ref);
	}
	front->page = NULL;
	cancel_work_sync(&front->look_work);
	kfree(front->backend);
	front->backend = NULL;
	front->submitted = false;
	front->late_ordinal = 0;
}

static int open_ring(struct tpmfront *front)
{
	evtchn_port_t port;
	int err;

	front->backend = kstrdup(front->dev->otherend, GFP_KERNEL);
	if (!front->backend)
		return -ENOMEM;
	err = xenbus_setup_ring(front->dev, GFP_KERNEL, (void **)&front->page, 1,
				&front->ring_ref);
	if (!err)
		err = bind_event_channel(front, &port);
	if (!err)
		err = publish_ring(front, port);
	if (err) {
		close_ring(front);
		return err;
	}
	front->rings++;
	WRITE_ONCE(front->lost, false);
	return xenbus_switch_state(front->dev, XenbusStateInitialised);
}

/* Whoever waits for the backend stops waiting; the chip stays, and answers with an error. */
static void lose_ring(struct tpmfront *front)
{
	WRITE_ONCE(front->lost, true);
	wake_up_all(&front->wait);
}

/* The same vTPM by another page and another event channel; it may have lost its power meanwhile. */
static int reopen_ring(struct tpmfront *front, bool powered)
{
	int err;

	lose_ring(front);
	mutex_lock(&front->ring_lock);
	if (!powered)
		front->orphan_count = 0;
	else if (front->page && page_is_ours(front))
		take_late_response(front);
	close_ring(front);
	err = open_ring(front);
	mutex_unlock(&front->ring_lock);
	return err;
}

static void free_event_log(struct kref *users)
{
	kvfree(container_of(users, struct event_log, users));
}

static int event_log_open(struct inode *inode, struct file *file)
{
	struct event_log *log;

	/* securityfs does not wait for who opens a file that it removes. */
	inode_lock(inode);
	log = inode->i_private;
	if (log)
		kref_get(&log->users);
	inode_unlock(inode);
	file->private_data = log;
	return log ? 0 : -ENODEV;
}

static ssize_t event_log_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	const struct event_log *log = file->private_data;

	return simple_read_from_buffer(to, size, at, log->data, log->size);
}

static int event_log_release(struct inode *inode, struct file *file)
{
	struct event_log *log = file->private_data;

	kref_put(&log->users, free_event_log);
	return 0;
}

static const struct file_operations event_log_ops = {
	.owner = THIS_MODULE,
	.open = event_log_open,
	.read = event_log_read,
	.llseek = default_llseek,
	.release = event_log_release,
};

/*
 * The answer to TPMIF_TPM2_CC_READ_EVENT_LOG: @whole is how long the log is, the rest the part of
 * it that begins at the offset.
 */
struct event_log_part {
	struct tpm_header header;
	__be32 whole;
	__be16 size;
	u8 data[];
} __packed;

/* How many bytes of the log are in @part, or an error; 0: it ends there, or there is none. */
static int read_event_log_part(struct tpmfront *front, struct event_log_part *part, size_t room,
			       u32 offset)
{
	struct {
		struct tpm_header header;
		__be32 offset;
	} __packed request = {
		.header = {
			.tag = cpu_to_be16(TPM2_ST_NO_SESSIONS),
			.length = cpu_to_be32(sizeof(request)),
			.ordinal = cpu_to_be32(TPMIF_TPM2_CC_READ_EVENT_LOG),
		},
		.offset = cpu_to_be32(offset),
	};
	size_t size;
	int ret;

	ret = transmit(front, (const u8 *)&request, sizeof(request), PROBE_SECONDS * HZ);
	if (!ret)
		ret = tpmfront_recv(front->chip, (u8 *)part, room);
	if (ret < 0)
		return ret;
	/* A TPM of an older backend does not know the command. */
	if (part->header.return_code)
		return 0;
	if (ret < sizeof(*part))
		return -EPROTO;
	size = be16_to_cpu(part->size);
	if (size != ret - sizeof(*part) || be32_to_cpu(part->whole) > MAX_EVENT_LOG ||
	    offset + size > be32_to_cpu(part->whole))
		return -EPROTO;
	return size;
}

/* How long the event is, of the @room that the log has left; 0: it does not fit, or is no event. */
static size_t logged_event_size(const struct tcg_efi_specid_event_head *id, const void *event,
				size_t room)
{
	const struct tcg_pcr_event2_head *head = event;
	const struct tcg_event_field *field;
	const struct tpm_digest *digest;
	size_t size = sizeof(*head);
	u32 i, j;

	if (room < size || head->count != id->num_algs)
		return 0;
	for (i = 0; i < id->num_algs; i++) {
		digest = event + size;
		size += sizeof(digest->alg_id);
		if (room < size)
			return 0;
		for (j = 0; j < id->num_algs; j++) {
			if (id->digest_sizes[j].alg_id == digest->alg_id)
				break;
		}
		if (j == id->num_algs)
			return 0;
		size += id->digest_sizes[j].digest_size;
	}
	field = event + size;
	size += sizeof(*field);
	if (room < size || field->event_size > room - size)
		return 0;
	return size + field->event_size;
}

/*
 * Whoever reads the log goes by the lengths in it, in Linux' own tree the TPM core: a firmware is
 * trusted, a backend is not. The first event tells the digests of the others, TCG PC Client
 * Platform Firmware Profile, 10.4.
 */
static bool is_event_log(const void *log, size_t size)
{
	const struct tcg_pcr_event *first = log;
	const struct tcg_efi_specid_event_head *id = (const void *)first->event;
	size_t at = sizeof(*first) + sizeof(*id);
	size_t next;

	if (size < at || first->event_size < sizeof(*id) ||
	    first->event_size > size - sizeof(*first) || first->event_type != NO_ACTION ||
	    memcmp(id->signature, TCG_SPECID_SIG, sizeof(TCG_SPECID_SIG)) ||
	    !id->num_algs || id->num_algs > MAX_LOG_DIGESTS ||
	    struct_size(id, digest_sizes, id->num_algs) > first->event_size)
		return false;
	for (at = sizeof(*first) + first->event_size; at < size; at += next) {
		next = logged_event_size(id, log + at, size - at);
		if (!next)
			return false;
	}
	return true;
}

/* NULL: there is none. */
static struct event_log *read_event_log(struct tpmfront *front)
{
	struct event_log_part *part = kmalloc(TPMIF_MAX_MESSAGE, GFP_KERNEL);
	unsigned long end = jiffies + PROBE_SECONDS * HZ; /* of all parts */
	struct event_log *log = NULL;
	size_t whole = 0;
	size_t have = 0;
	int size;

	if (!part)
		return NULL;
	do {
		size = -ETIME;
		if (time_before(jiffies, end))
			size = read_event_log_part(front, part, TPMIF_MAX_MESSAGE, have);
		if (size <= 0)
			break;
		if (!log) {
			whole = be32_to_cpu(part->whole);
			log = kvmalloc(struct_size(log, data, whole), GFP_KERNEL);
		}
		if (!log || be32_to_cpu(part->whole) != whole)
			break;
		memcpy(log->data + have, part->data, size);
		have += size;
	} while (have < whole);
	kfree(part);
	if (log && have == whole) {
		kref_init(&log->users);
		log->size = whole;
		if (is_event_log(log->data, whole))
			return log;
		size = -EPROTO;
	}
	if (log || size < 0)
		dev_warn(&front->dev->dev, "the event log cannot be read: %d\n", size);
	kvfree(log);
	return NULL;
}

/*
 * Where the TPM core puts the log that a firmware left. It must be there before the core announces
 * the chip; a chip without such a log gets no directory from the core.
 */
static void show_event_log(struct tpmfront *front)
{
	struct event_log *log;

	if (!(front->chip->flags & TPM_CHIP_FLAG_TPM2) || front->log_directory)
		return;
	if (IS_ENABLED(CONFIG_EFI) && efi.tpm_log != EFI_INVALID_TABLE_ADDR)
		return;
	log = read_event_log(front);
	if (!log)
		return;
	front->log_directory = securityfs_create_dir(dev_name(&front->chip->dev), NULL);
	if (IS_ERR(front->log_directory)) {
		front->log_directory = NULL;
		kvfree(log);
		return;
	}
	front->log_file = securityfs_create_file("binary_bios_measurements", 0440,
						 front->log_directory, log, &event_log_ops);
	if (IS_ERR(front->log_file)) {
		front->log_file = NULL;
		kvfree(log);
	}
}

/* An open file keeps its dentry, and that its directory's: their names are to be free. */
static void remove_from_securityfs(struct dentry *dentry)
{
	if (!dentry)
		return;
	dget(dentry);
	securityfs_remove(dentry);
	d_drop(dentry);
	dput(dentry);
}

static void hide_event_log(struct tpmfront *front)
{
	if (front->log_file) {
		struct inode *inode = d_inode(front->log_file);
		struct event_log *log;

		inode_lock(inode);
		log = inode->i_private;
		inode->i_private = NULL;
		inode_unlock(inode);
		remove_from_securityfs(front->log_file);
		kref_put(&log->users, free_event_log);
	}
	remove_from_securityfs(front->log_directory);
	front->log_file = NULL;
	front->log_directory = NULL;
}

/* The interrupt of a late answer has it tried again, or we do if that came already. */
static void await_first_answer(struct tpmfront *front)
{
	dev_warn_ratelimited(&front->dev->dev, "no answer from the TPM yet\n");
	mutex_lock(&front->ring_lock);
	/* The interrupt looks at the page first, and then at this: one of the two sees both. */
	virt_store_mb(front->unanswered, true);
	if (front->late_ordinal && page_is_ours(front))
		queue_registration(front);
	mutex_unlock(&front->ring_lock);
}

/*
 * Asks for a property that only a TPM 2.0 has, as tpm2_probe() does, but tells when nobody answers:
 * the TPM core must not meet such a TPM, it takes it for a TPM 1.2 and tries a chip only once.
 *
 * The command may be submitted before the backend is connected: the event is then pending for it,
 * and so a probe at boot needs no thread of its own to wait for xenstore.
 */
static int identify_tpm(struct tpmfront *front)
{
	static const u8 get_capability[] = {
		0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a,
		0, 0, 0, TPM2_CAP_TPM_PROPERTIES,
		0, 0, 0x01, 0, /* TPM_PT_FIXED */
		0, 0, 0, 1,
	};
	u8 answer[64];
	int ret;

	ret = transmit(front, get_capability, sizeof(get_capability), PROBE_SECONDS * HZ);
	if (!ret)
		ret = tpmfront_recv(front->chip, answer, sizeof(answer));
	if (ret < 0)
		return ret;
	if (be16_to_cpu(((const struct tpm_header *)answer)->tag) == TPM2_ST_NO_SESSIONS)
		front->chip->flags |= TPM_CHIP_FLAG_TPM2;
	return 0;
}

static void register_chip(struct tpmfront *front)
{
	int err = identify_tpm(front);

	if (err) {
		await_first_answer(front);
		return;
	}
	show_event_log(front);
	/* The chip's users run already before the core has returned. */
	WRITE_ONCE(front->registering, true);
	err = tpm_chip_register(front->chip);
	WRITE_ONCE(front->registering, false);
	WRITE_ONCE(front->registered, !err);
	front->refused = err;
	if (!err)
		return;
	hide_event_log(front);
	front->chip->nr_commands = 0; /* of a table that may have been freed */
	xenbus_dev_error(front->dev, err, "the TPM core cannot use this TPM");
}

/* A TPM that did not answer in probe(); not in xenbus' own thread, for it may take long again. */
static void register_later(struct work_struct *work)
{
	struct tpmfront *front = container_of(work, struct tpmfront, register_work);

	WRITE_ONCE(front->unanswered, false);
	if (!front->registered && !front->refused)
		register_chip(front);
}

/* A device that is attached to a running guest is probed in xenbus' own thread. */
static bool in_xenwatch(void)
{
	return system_state == SYSTEM_RUNNING && current->flags & PF_KTHREAD;
}

static bool is_offering(const struct xenbus_device *dev)
{
	const enum xenbus_state state = backend_state(dev->otherend);

	return state == XenbusStateInitialising || state == XenbusStateInitWait;
}

/*
 * When the driver is bound again, or by another kernel after kexec, the backend still shows the
 * former connection or its end, and may still have the former ring. It answers Initialising by
 * InitWait; one that stays closed has no TPM for us, one that stays connected may look at our ring
 * only.
 */
static int wait_for_offer(struct xenbus_device *dev)
{
	unsigned long end = jiffies + OFFER_SECONDS * HZ;

	if (is_offering(dev))
		return 0;
	if (in_xenwatch() && has_left(backend_state(dev->otherend)))
		return -ENODEV;
	xenbus_switch_state(dev, XenbusStateInitialising);
	while (!is_offering(dev)) {
		if (time_after(jiffies, end))
			return has_left(backend_state(dev->otherend)) ? -ENODEV : 0;
		msleep(20);
	}
	return 0;
}

/* Takes no lock: people look when a command hangs. What they see may change meanwhile. */
static int __no_kcsan tpmfront_show(struct seq_file *file, void *unused)
{
	struct tpmfront *front = file->private;
	struct xenbus_device *dev = front->dev;

	seq_printf(file, "state %s\n", xenbus_strstate(dev->state));
	seq_printf(file, "backend %s\n", xenbus_strstate(backend_state(dev->otherend)));
	seq_printf(file, "ring %s\n", !front->page ? "none" : front->lost ? "lost" : "open");
	seq_printf(file, "rings %lu\n", front->rings);
	seq_printf(file, "commands %lu\n", front->commands);
	seq_printf(file, "failures %lu\n", front->failures);
	seq_printf(file, "malformed %lu\n", front->malformed);
	seq_printf(file, "late %lu\n", front->late);
	seq_printf(file, "orphans %u\n", front->orphan_count);
	seq_printf(file, "interrupts %ld\n", atomic_long_read(&front->interrupts));
	seq_printf(file, "spurious %ld\n", atomic_long_read(&front->spurious));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(tpmfront);

static struct tpmfront *new_front(struct xenbus_device *dev)
{
	struct tpmfront *front = kzalloc(sizeof(*front), GFP_KERNEL);

	if (!front)
		return ERR_PTR(-ENOMEM);
	front->dev = dev;
	mutex_init(&front->ring_lock);
	init_waitqueue_head(&front->wait);
	INIT_WORK(&front->register_work, register_later);
	INIT_WORK(&front->look_work, look_at_backend);

	front->chip = tpmm_chip_alloc(&dev->dev, &tpmfront_ops);
	if (IS_ERR(front->chip)) {
		int err = PTR_ERR(front->chip);

		kfree(front);
		return ERR_PTR(err);
	}
	dev_set_drvdata(&front->chip->dev, front);
	return front;
}

static int tpmfront_probe(struct xenbus_device *dev, const struct xenbus_device_id *id)
{
	struct tpmfront *front;
	int err;

	err = wait_for_offer(dev);
	if (err) {
		xenbus_dev_fatal(dev, err,
				 "the backend does not offer the vTPM; power cycle the guest");
		return err;
	}
	front = new_front(dev);
	if (IS_ERR(front)) {
		xenbus_dev_fatal(dev, PTR_ERR(front), "allocating the vTPM");
		return PTR_ERR(front);
	}
	err = open_ring(front);
	if (err) {
		dev_set_drvdata(&dev->dev, NULL);
		kfree(front);
		xenbus_dev_fatal(dev, err, "setting up the ring");
		return err;
	}
	front->debugfs = debugfs_create_file(dev_name(&dev->dev), 0400, debugfs_root, front,
					     &tpmfront_fops);
	/*
	 * Other devices need that thread, and xl shutdown: backend_connected() has the chip
	 * registered.
	 */
	if (in_xenwatch())
		return 0;
	/*
	 * At boot IMA wants the chip now, and after insmod its users do. Should the backend connect
	 * later, backend_connected() tries again. All that a connection needs from us is done, and
	 * said: xenbus makes the boot, or insmod, wait for half a minute at best (.not_essential)
	 * for a frontend that is not connected.
	 */
	register_chip(front);
	if (!front->registered)
		xenbus_switch_state(dev, XenbusStateConnected);
	return 0;
}

/*
 * tpm_chip_unregister() frees what a command under way still uses (the table of the TPM's commands,
 * a devres of the chip's device) before it waits for that command. The core's own preparation for
 * power-off waits first, sends TPM2_Shutdown and lets no other command start.
 */
static void unregister_chip(struct tpm_chip *chip)
{
	chip->dev.class->shutdown_pre(&chip->dev);
	tpm_chip_unregister(chip);
}

static void tpmfront_remove(struct xenbus_device *dev)
{
	struct tpmfront *front = front_of(dev);

	if (!front)
		return;
	WRITE_ONCE(front->leaving, true);
	/* Nobody is left to be told of the end, or nobody has answered so far. */
	if (!READ_ONCE(front->registered) || has_left(backend_state(dev->otherend)))
		lose_ring(front);
	cancel_work_sync(&front->register_work);
	if (front->registered)
		unregister_chip(front->chip);
	hide_event_log(front);
	debugfs_remove(front->debugfs);
	mutex_lock(&front->ring_lock);
	close_ring(front);
	mutex_unlock(&front->ring_lock);
	/* Once more: the interrupt may have queued it. */
	cancel_work_sync(&front->register_work);
	dev_set_drvdata(&dev->dev, NULL);
	kfree_sensitive(front);
}

/*
 * Before save or migration. The vTPM keeps its power, so it stays usable should the suspend be
 * cancelled, of which xenbus does not tell: the core must not take the chip for suspended.
 */
static int tpmfront_suspend(struct xenbus_device *dev)
{
	struct tpmfront *front = front_of(dev);

	if (!front || !front->registered)
		return 0;
	/* The answer comes to this page, and the next ring has another one. */
	mutex_lock(&front->ring_lock);
	if (front->late_ordinal && front->page)
		settle_page(front, jiffies + SUSPEND_SECONDS * HZ);
	mutex_unlock(&front->ring_lock);
	tpm_pm_suspend(&dev->dev);
	return tpm_pm_resume(&dev->dev);
}

static int tpmfront_resume(struct xenbus_device *dev)
{
	struct tpmfront *front = front_of(dev);

	return front ? reopen_ring(front, true) : 0;
}

static void backend_connected(struct tpmfront *front)
{
	struct xenbus_device *dev = front->dev;

	if (READ_ONCE(front->lost))
		return;
	if (!xenbus_read_unsigned(dev->otherend, TPMIF_KEY_PROTOCOL_V2, 0)) {
		xenbus_dev_fatal(dev, -EPROTONOSUPPORT,
				 "the backend does not speak vTPM protocol 2");
		return;
	}
	xenbus_switch_state(dev, XenbusStateConnected);
	queue_registration(front);
}

/* After it had closed, at its own wish: a restarted backend. */
static void backend_offers(struct tpmfront *front)
{
	struct xenbus_device *dev = front->dev;
	int err;

	if (dev->state != XenbusStateClosed)
		return;
	reinit_completion(&dev->down);
	err = reopen_ring(front, false);
	if (err)
		xenbus_dev_error(dev, err, "setting up the ring again");
}

static void tpmfront_backend_changed(struct xenbus_device *dev, enum xenbus_state state)
{
	struct tpmfront *front = front_of(dev);

	if (!front)
		return;
	switch (state) {
	case XenbusStateUnknown:
	case XenbusStateInitialising:
	case XenbusStateInitialised:
	case XenbusStateReconfiguring:
	case XenbusStateReconfigured:
		break;
	case XenbusStateInitWait:
		backend_offers(front);
		break;
	case XenbusStateConnected:
		backend_connected(front);
		break;
	case XenbusStateClosing:
	case XenbusStateClosed:
		lose_ring(front);
		if (dev->state != XenbusStateClosed)
			xenbus_frontend_closed(dev);
		break;
	}
}

static const struct xenbus_device_id tpmfront_ids[] = {
	{ TPMIF_DEVICE },
	{ "" }
};

static struct xenbus_driver tpmfront_driver = {
	.name = "xen-tpmfront",
	.ids = tpmfront_ids,
	.probe = tpmfront_probe,
	.remove = tpmfront_remove,
	.suspend = tpmfront_suspend,
	.resume = tpmfront_resume,
	.otherend_changed = tpmfront_backend_changed,
};

static int __init tpmfront_init(void)
{
	int err;

	if (!xen_domain() || !xen_has_pv_devices())
		return -ENODEV;
	debugfs_root = debugfs_create_dir("xen-tpmfront", NULL);
	err = xenbus_register_frontend(&tpmfront_driver);
	if (err)
		debugfs_remove(debugfs_root);
	return err;
}
module_init(tpmfront_init);

static void __exit tpmfront_exit(void)
{
	xenbus_unregister_driver(&tpmfront_driver);
	debugfs_remove(debugfs_root);
}
module_exit(tpmfront_exit);

MODULE_DESCRIPTION("Xen paravirtual TPM frontend");
MODULE_ALIAS("xen:" TPMIF_DEVICE);
MODULE_LICENSE("GPL");
