// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest's kernel that is hostile to its vTPM's backend: for as long as it is loaded, and at full
 * speed, it scribbles over the shared page, storms the event channel, rewrites its xenstore
 * directory, or submits commands without waiting for the answers.
 *
 * insmod hostile.ko attack=page|events|store|commands|all|none
 * rmmod hostile
 *
 * "none" burns the processor, and leaves the backend alone. At the end the log tells how often it
 * did what.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/random.h>
#include <xen/events.h>
#include <xen/grant_table.h>
#include <xen/interface/event_channel.h>
#include <xen/page.h>
#include <xen/xenbus.h>
#include <asm/xen/hypercall.h>

#define DIRECTORY "device/vtpm/0"
#define STATE_OFFSET 4
#define SUBMIT 1

static char *attack = "all";
module_param(attack, charp, 0400);

static struct {
	u8 *page;
	grant_ref_t ref;
	evtchn_port_t port;
	struct task_struct *task;
	unsigned long scribbles, events, writes, commands, rounds;
} hostile;

static bool does(const char *what)
{
	return !strcmp(attack, what) || !strcmp(attack, "all");
}

static void scribble(void)
{
	u32 header[3];

	/* Plausible now and then: a command that runs is changed while it runs. */
	get_random_bytes(header, sizeof(header));
	if (header[2] & 1) {
		header[0] = 12;
		header[1] = SUBMIT;
	}
	memcpy(hostile.page, header, 8);
	hostile.page[8 + header[2] % (PAGE_SIZE - 8)] ^= header[2] >> 24;
	hostile.page[STATE_OFFSET] = header[2] & 2 ? SUBMIT : header[2] >> 8;
	notify_remote_via_evtchn(hostile.port);
	hostile.scribbles++;
}

static void storm(void)
{
	int i;

	for (i = 0; i < 100; i++)
		notify_remote_via_evtchn(hostile.port);
	hostile.events += 100;
}

/* TPM2_GetRandom(8): costs the engine a wake-up and little else. */
static void command(void)
{
	static const u8 get_random[] = { 0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8 };
	static const u8 header[] = { sizeof(get_random), 0, 0, 0, SUBMIT, 0, 0, 0 };

	memcpy(hostile.page + sizeof(header), get_random, sizeof(get_random));
	memcpy(hostile.page, header, sizeof(header));
	notify_remote_via_evtchn(hostile.port);
	hostile.commands++;
}

static void rewrite(void)
{
	static const char *const keys[] = {
		"state", "state", "state", "ring-ref", "event-channel", "feature-protocol-v2"
	};
	u32 random = get_random_u32();
	const char *key = keys[random % ARRAY_SIZE(keys)];

	/* The truth: a frontend that writes nonsense is closed for good, and that would be all. */
	if (!strcmp(key, "state"))
		xenbus_printf(XBT_NIL, DIRECTORY, key, "%u", 3 + (random >> 8) % 4);
	else
		xenbus_printf(XBT_NIL, DIRECTORY, key, "%u",
			      !strcmp(key, "ring-ref") ? hostile.ref :
			      !strcmp(key, "event-channel") ? hostile.port : 1);
	hostile.writes++;
}

static int be_hostile(void *unused)
{
	while (!kthread_should_stop()) {
		if (does("page"))
			scribble();
		if (does("events"))
			storm();
		if (does("commands"))
			command();
		/* A write waits for xenstored: the others go on meanwhile a hundred times. */
		if (does("store") && hostile.rounds % 100 == 0)
			rewrite();
		hostile.rounds++;
		cond_resched();
	}
	return 0;
}

static int connect(void)
{
	struct evtchn_alloc_unbound channel = { .dom = DOMID_SELF, .remote_dom = 0 };
	int err;

	hostile.page = (u8 *)get_zeroed_page(GFP_KERNEL);
	if (!hostile.page)
		return -ENOMEM;
	err = gnttab_grant_foreign_access(0, virt_to_gfn(hostile.page), 0);
	if (err < 0)
		goto free_page;
	hostile.ref = err;
	err = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &channel);
	if (err)
		goto end_access;
	hostile.port = channel.port;
	xenbus_printf(XBT_NIL, DIRECTORY, "ring-ref", "%u", hostile.ref);
	xenbus_printf(XBT_NIL, DIRECTORY, "event-channel", "%u", hostile.port);
	xenbus_printf(XBT_NIL, DIRECTORY, "feature-protocol-v2", "1");
	xenbus_printf(XBT_NIL, DIRECTORY, "state", "3");
	/* The backend needs a moment. */
	msleep(5000);
	return 0;

end_access:
	gnttab_end_foreign_access(hostile.ref, NULL);
free_page:
	free_page((unsigned long)hostile.page);
	return err;
}

static int __init hostile_init(void)
{
	int err = connect();

	if (err)
		return err;
	hostile.task = kthread_run(be_hostile, NULL, "hostile");
	return PTR_ERR_OR_ZERO(hostile.task);
}
module_init(hostile_init);

static void __exit hostile_exit(void)
{
	struct evtchn_close close = { .port = hostile.port };

	kthread_stop(hostile.task);
	pr_info("hostile: %lu rounds, %lu scribbles, %lu events, %lu writes, %lu commands\n",
		hostile.rounds, hostile.scribbles, hostile.events, hostile.writes,
		hostile.commands);
	xenbus_printf(XBT_NIL, DIRECTORY, "state", "6");
	HYPERVISOR_event_channel_op(EVTCHNOP_close, &close);
	/* The page goes when the backend has unmapped it. */
	gnttab_end_foreign_access(hostile.ref, virt_to_page(hostile.page));
}
module_exit(hostile_exit);

MODULE_DESCRIPTION("A hostile vTPM frontend");
MODULE_LICENSE("GPL");
