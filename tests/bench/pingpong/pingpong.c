// SPDX-License-Identifier: GPL-2.0-only
/*
 * The floor of a paravirtual device's round trip: a byte in a shared page, an event, an event back.
 * And that of a TPM's command: a driver that does this and no more, with the message in the page.
 * It trusts the other side with everything.
 *
 * /sys/kernel/debug/pingpong/ring   the grant reference and the event channel for the other side
 * /sys/kernel/debug/pingpong/run    a read makes the rounds: their number, and the median and the
 *                                   99th percentile of a round in nanoseconds
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/seq_file.h>
#include <linux/sort.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>
#include <xen/events.h>
#include <xen/grant_table.h>
#include <xen/page.h>
#include <asm/xen/hypercall.h>

#include "tpm_core.h"

#define ROUNDS 2000
#define TIMEOUT (5 * HZ)

struct page_layout {
	u8 busy;
	u32 length;
	u8 message[4088];
};

static struct {
	struct page_layout *page;
	grant_ref_t ref;
	evtchn_port_t port;
	int irq;
	wait_queue_head_t wait;
	struct dentry *debugfs;
	struct platform_device *device;
	struct tpm_chip *chip;
} ring;

static bool is_back(void)
{
	/* Pairs with the echo's release. */
	return !smp_load_acquire(&ring.page->busy);
}

static irqreturn_t on_event(int irq, void *unused)
{
	wake_up(&ring.wait);
	xen_irq_lateeoi(irq, 0);
	return IRQ_HANDLED;
}

static int compare(const void *left, const void *right)
{
	u32 a = *(const u32 *)left, b = *(const u32 *)right;

	return a < b ? -1 : a > b;
}

static int round_trip(void)
{
	/* What a message is was written before the other side can see it. */
	smp_store_release(&ring.page->busy, 1);
	notify_remote_via_irq(ring.irq);
	return wait_event_timeout(ring.wait, is_back(), TIMEOUT) ? 0 : -ETIME;
}

static int run_show(struct seq_file *file, void *unused)
{
	u32 *took = vmalloc_array(ROUNDS, sizeof(*took));
	int round, err = 0;

	if (!took)
		return -ENOMEM;
	ring.page->length = 0;
	for (round = 0; round < ROUNDS && !err; round++) {
		u64 began = ktime_get_ns();

		err = round_trip();
		took[round] = ktime_get_ns() - began;
	}
	if (!err) {
		sort(took, ROUNDS, sizeof(*took), compare, NULL);
		seq_printf(file, "%d %u %u\n", ROUNDS, took[ROUNDS / 2], took[ROUNDS * 99 / 100]);
	}
	vfree(took);
	return err;
}
DEFINE_SHOW_ATTRIBUTE(run);

static int ring_show(struct seq_file *file, void *unused)
{
	seq_printf(file, "%u %u\n", ring.ref, ring.port);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(ring);

static int floor_send(struct tpm_chip *chip, u8 *buf, size_t count)
{
	memcpy(ring.page->message, buf, count);
	ring.page->length = count;
	return round_trip();
}

static int floor_recv(struct tpm_chip *chip, u8 *buf, size_t count)
{
	memcpy(buf, ring.page->message, ring.page->length);
	return ring.page->length;
}

static u8 floor_status(struct tpm_chip *chip)
{
	return 0;
}

static void floor_cancel(struct tpm_chip *chip)
{
}

static bool floor_req_canceled(struct tpm_chip *chip, u8 status)
{
	return false;
}

static const struct tpm_class_ops floor_ops = {
	.send = floor_send,
	.recv = floor_recv,
	.status = floor_status,
	.cancel = floor_cancel,
	.req_canceled = floor_req_canceled,
};

/* Without TPM_OPS_AUTO_STARTUP the core sends nothing while it registers a TPM 1.2. */
static int add_tpm(void)
{
	int err;

	ring.device = platform_device_register_simple("pingpong", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(ring.device))
		return PTR_ERR(ring.device);
	ring.chip = tpmm_chip_alloc(&ring.device->dev, &floor_ops);
	err = PTR_ERR_OR_ZERO(ring.chip);
	if (!err)
		err = tpm_chip_register(ring.chip);
	if (err)
		platform_device_unregister(ring.device);
	return err;
}

static int open_channel(void)
{
	struct evtchn_alloc_unbound channel = { .dom = DOMID_SELF, .remote_dom = 0 };
	int err = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &channel);

	if (err)
		return err;
	ring.port = channel.port;
	err = bind_evtchn_to_irqhandler_lateeoi(ring.port, on_event, 0, "pingpong", NULL);
	if (err < 0)
		return err;
	ring.irq = err;
	return 0;
}

static int __init pingpong_init(void)
{
	int err;

	BUILD_BUG_ON(sizeof(*ring.page) != PAGE_SIZE);
	ring.page = (struct page_layout *)get_zeroed_page(GFP_KERNEL);
	if (!ring.page)
		return -ENOMEM;
	init_waitqueue_head(&ring.wait);
	err = gnttab_grant_foreign_access(0, virt_to_gfn(ring.page), 0);
	if (err < 0) {
		free_page((unsigned long)ring.page);
		return err;
	}
	ring.ref = err;
	err = open_channel();
	if (err)
		goto end_access;
	err = add_tpm();
	if (err)
		goto unbind;
	ring.debugfs = debugfs_create_dir("pingpong", NULL);
	debugfs_create_file("ring", 0400, ring.debugfs, NULL, &ring_fops);
	debugfs_create_file("run", 0400, ring.debugfs, NULL, &run_fops);
	return 0;

unbind:
	unbind_from_irqhandler(ring.irq, NULL);
end_access:
	gnttab_end_foreign_access(ring.ref, virt_to_page(ring.page));
	return err;
}
module_init(pingpong_init);

static void __exit pingpong_exit(void)
{
	debugfs_remove(ring.debugfs);
	tpm_chip_unregister(ring.chip);
	platform_device_unregister(ring.device);
	unbind_from_irqhandler(ring.irq, NULL);
	gnttab_end_foreign_access(ring.ref, virt_to_page(ring.page));
}
module_exit(pingpong_exit);

MODULE_DESCRIPTION("Event channel ping-pong");
MODULE_LICENSE("GPL");
