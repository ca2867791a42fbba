/*
 * A stand-in for Testcontainers' Ryuk, the container that removes what a session of tests left behind. The real one is an
 * image in a registry, and these tests reach none; they load this under the name that the libraries would pull.
 *
 * It keeps Ryuk's protocol: on port 8080, each line `label=KEY=VALUE` is a filter and is answered by `ACK`. When the last
 * connection has closed and none has come back within RYUK_RECONNECTION_TIMEOUT, it removes containers, networks, volumes and
 * images with one of these labels through /var/run/docker.sock, and ends. Without a first connection it ends after
 * RYUK_CONNECTION_TIMEOUT. One label on a line is enough for it: no library here sends more.
 *
 * Linked statically, so that it runs in an image that holds nothing else: gcc -static.
 */

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 8080, CLIENTS = 64, FILTERS = 64, LINE = 512, ANSWER = 4 << 20 };

static char filters[FILTERS][LINE];
static int filter_count;
static char answer[ANSWER];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000LL + at.tv_nsec / 1000000;
}

/* Milliseconds of "10s", "500ms" or "1m". */
static long long duration(const char *name, long long otherwise)
{
	const char *text = getenv(name);
	char *unit;
	if (!text || !*text)
		return otherwise;
	long long number = strtoll(text, &unit, 10);
	if (!strcmp(unit, "ms"))
		return number;
	if (!strcmp(unit, "s"))
		return number * 1000;
	if (!strcmp(unit, "m"))
		return number * 60000;
	fprintf(stderr, "%s: %s is no duration\n", name, text);
	exit(2);
}

/* One call. The whole answer, headers included, is in `answer` afterwards. Returns its status. */
static int call(const char *method, const char *target)
{
	struct sockaddr_un place = { .sun_family = AF_UNIX, .sun_path = "/var/run/docker.sock" };
	char request[LINE * 4 + 128];
	int engine = socket(AF_UNIX, SOCK_STREAM, 0), status = 0;
	size_t length = 0;
	if (engine < 0 || connect(engine, (struct sockaddr *)&place, sizeof place))
		fail("cannot connect to /var/run/docker.sock");
	/* HTTP/1.0: the answer is not in chunks and ends with the connection. */
	int size = snprintf(request, sizeof request, "%s %s HTTP/1.0\r\nHost: engine\r\n\r\n", method, target);
	if (write(engine, request, size) != size)
		fail("cannot ask the engine");
	for (;;) {
		ssize_t got = read(engine, answer + length, sizeof answer - 1 - length);
		if (got < 0)
			fail("the engine's answer breaks off");
		if (got == 0)
			break;
		length += got;
	}
	answer[length] = 0;
	close(engine);
	sscanf(answer, "HTTP/1.%*d %d", &status);
	return status;
}

/* The filter as the value of `filters=`, percent-encoded. */
static void encoded(const char *label, char *out)
{
	char json[LINE + 32];
	snprintf(json, sizeof json, "{\"label\":{\"%s\":true}}", label);
	for (const char *at = json; *at; at++)
		out += sprintf(out, "%%%02X", (unsigned char)*at);
}

/* Removes all of one kind; `member` is what tells them apart in the list, as JSON has it. */
static void reap(const char *kind, const char *list, const char *member, const char *options, const char *label)
{
	char target[LINE * 4], filter[LINE * 3 + 96];
	char own[16] = "";
	int removed = 0;
	/* Its own container has the label too, and the beginning of its id as host name. */
	gethostname(own, sizeof own - 1);
	encoded(label, filter);
	snprintf(target, sizeof target, "/%s%sfilters=%s", kind, list, filter);
	if (call("GET", target) != 200) {
		fprintf(stderr, "cannot list %s: %s\n", kind, answer);
		return;
	}
	/* Each removal is an answer of its own, so the list must be kept. */
	char *kept = strdup(answer);
	if (!kept)
		fail("no memory");
	for (char *at = kept; (at = strstr(at, member));) {
		char *name = at + strlen(member);
		at = strchr(name, '"');
		if (!at)
			break;
		*at++ = 0;
		if (*own && !strncmp(name, own, strlen(own)))
			continue;
		snprintf(target, sizeof target, "/%s/%s%s", kind, name, options);
		int status = call("DELETE", target);
		if (status < 300)
			removed++;
		else if (status != 404)
			fprintf(stderr, "cannot remove %s of %s: %s\n", name, kind, answer);
	}
	free(kept);
	printf("removed %d %s\n", removed, kind);
}

static void reap_all(void)
{
	for (int i = 0; i < filter_count; i++) {
		reap("containers", "/json?all=1&", "\"Id\":\"", "?force=1&v=1", filters[i]);
		reap("networks", "?", "\"Id\":\"", "", filters[i]);
		reap("volumes", "?", "\"Name\":\"", "?force=1", filters[i]);
		reap("images", "/json?", "\"Id\":\"", "?force=1", filters[i]);
	}
}

static void heard(int client, char *line)
{
	line[strcspn(line, "\r\n")] = 0;
	/* A quote or a backslash would have to be escaped in JSON; no library uses any. */
	if (strncmp(line, "label=", 6) || strpbrk(line, "\"\\")) {
		fprintf(stderr, "not understood: %s\n", line);
		return;
	}
	int known = 0;
	for (int i = 0; i < filter_count; i++)
		known |= !strcmp(filters[i], line + 6);
	if (!known && filter_count < FILTERS)
		strcpy(filters[filter_count++], line + 6);
	printf("filter %s\n", line + 6);
	/* A client that does not read its answer is nobody's loss. */
	(void)!write(client, "ACK\n", 4);
}

static struct {
	char text[LINE];
	size_t length;
} lines[CLIENTS + 1];

/* Reads what there is; false when the connection has ended. */
static int served(int client, int slot)
{
	char part[LINE];
	ssize_t got = read(client, part, sizeof part);
	if (got <= 0)
		return 0;
	for (ssize_t i = 0; i < got; i++) {
		if (lines[slot].length < LINE - 1)
			lines[slot].text[lines[slot].length++] = part[i];
		if (part[i] != '\n')
			continue;
		lines[slot].text[lines[slot].length] = 0;
		lines[slot].length = 0;
		heard(client, lines[slot].text);
	}
	return 1;
}

int main(void)
{
	struct pollfd open[CLIENTS + 1];
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int count = 1, yes = 1;
	long long reconnection = duration("RYUK_RECONNECTION_TIMEOUT", 10000);
	long long deadline = now() + duration("RYUK_CONNECTION_TIMEOUT", 60000);

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	/* The first process of a container has no default action for SIGTERM. */
	signal(SIGTERM, _exit);
	open[0].fd = socket(AF_INET, SOCK_STREAM, 0);
	open[0].events = POLLIN;
	setsockopt(open[0].fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (open[0].fd < 0 || bind(open[0].fd, (struct sockaddr *)&any, sizeof any) || listen(open[0].fd, CLIENTS))
		fail("cannot listen");
	if (call("GET", "/_ping") != 200)
		fail("the engine does not answer");
	/* The libraries wait for this word. */
	printf("stand-in for Ryuk: Started!\n");

	for (;;) {
		long long left = count > 1 ? -1 : deadline - now();
		if (count == 1 && left <= 0)
			break;
		if (poll(open, count, (int)left) < 0 && errno != EINTR)
			fail("poll");
		for (int i = count - 1; i > 0; i--) {
			if (!open[i].revents || served(open[i].fd, i))
				continue;
			close(open[i].fd);
			count--;
			open[i] = open[count];
			lines[i] = lines[count];
			deadline = now() + reconnection;
		}
		if ((open[0].revents & POLLIN) && count <= CLIENTS) {
			int client = accept(open[0].fd, NULL, NULL);
			if (client >= 0) {
				lines[count].length = 0;
				open[count++] = (struct pollfd){ .fd = client, .events = POLLIN };
			}
		}
	}
	reap_all();
	return 0;
}
