/* What the clients have in common: arguments, a socket, and MQTT enough for one
 * large message. Each prints what its library says, and ends with 0 if it was
 * let in.
 *
 *   client PORT NAME CA CERT KEY OPTIONS
 *
 * NAME is what the certificate must have. "-" is none. OPTIONS are words with
 * commas between them: tls11, tls12, rsa (suites that no listener has: with RSA
 * key exchange, or CBC), alpn (asks for h2), mqtt=N (subscribes and wants N bytes
 * in one message), buffer=N (bytes of the receive buffer, BearSSL), silent
 * (announces no maximum fragment length, BearSSL). */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int port;
static const char *name, *ca, *cert, *key, *options;

static int option(const char *word) {
	size_t n = strlen(word);
	const char *p = options;
	while ((p = strstr(p, word)) != NULL) {
		if ((p == options || p[-1] == ',') && (p[n] == 0 || p[n] == ','))
			return 1;
		p += n;
	}
	return 0;
}

static long number(const char *word, long otherwise) {
	const char *p = strstr(options, word);
	return p ? atol(p + strlen(word)) : otherwise;
}

static void arguments(int argc, char **argv) {
	if (argc != 7) {
		fprintf(stderr, "usage: client PORT NAME CA CERT KEY OPTIONS\n");
		exit(2);
	}
	port = atoi(argv[1]);
	name = argv[2];
	ca = argv[3];
	cert = strcmp(argv[4], "-") ? argv[4] : NULL;
	key = strcmp(argv[5], "-") ? argv[5] : NULL;
	options = argv[6];
}

static int dial(void) {
	struct sockaddr_in a = {0};
	struct timeval wait = {30, 0};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	a.sin_family = AF_INET;
	a.sin_port = htons(port);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
		perror("connect");
		exit(3);
	}
	return fd;
}

/* read and write of the library; 0 or less is the end. */
static int take(void *p, int n);
static int give(const void *p, int n);

static void need(void *p, int n) {
	char *b = p;
	while (n > 0) {
		int k = take(b, n);
		if (k <= 0) {
			printf("ended with %d bytes to come\n", n);
			exit(1);
		}
		b += k;
		n -= k;
	}
}

/* packet reads one MQTT packet into p and returns its type; *n is the length of
 * its body. */
static int packet(unsigned char *p, int room, int *n) {
	unsigned char type, b;
	int shift = 0;
	need(&type, 1);
	*n = 0;
	do {
		need(&b, 1);
		*n |= (b & 127) << shift;
		shift += 7;
	} while (b & 128 && shift < 28);
	if (*n > room) {
		printf("packet of %d bytes\n", *n);
		exit(1);
	}
	need(p, *n);
	return type >> 4;
}

/* converse exchanges two bytes, or waits for a message of mqtt=N bytes, all the same
 * letter, to topic big. */
static int converse(void) {
	static unsigned char buf[100000];
	long want = number("mqtt=", 0);
	int n, type;
	if (want == 0) {
		give("hi", 2);
		need(buf, 2);
		printf("let in\n");
		return 0;
	}
	unsigned char connect[] = {0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 0};
	connect[1] = sizeof connect - 2;
	give(connect, sizeof connect);
	if (packet(buf, sizeof buf, &n) != 2 || n != 2 || buf[1] != 0) {
		printf("no CONNACK\n");
		return 1;
	}
	unsigned char subscribe[] = {0x82, 8, 0, 1, 0, 3, 'b', 'i', 'g', 1};
	give(subscribe, sizeof subscribe);
	if (packet(buf, sizeof buf, &n) != 9) {
		printf("no SUBACK\n");
		return 1;
	}
	printf("subscribed\n");
	fflush(stdout);
	while ((type = packet(buf, sizeof buf, &n)) != 3)
		;
	int at = 2 + (buf[0] << 8 | buf[1]) + 2;
	if (n - at != want) {
		printf("%d bytes of %ld\n", n - at, want);
		return 1;
	}
	for (int i = at; i < n; i++)
		if (buf[i] != 'x') {
			printf("byte %d differs\n", i);
			return 1;
		}
	printf("received %ld bytes\n", want);
	return 0;
}
