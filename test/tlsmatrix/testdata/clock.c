/* Preloaded, it is the first second of the year 2000 plus what has passed. */
#define _GNU_SOURCE
#include <time.h>

time_t time(time_t *t) {
	struct timespec up;
	clock_gettime(CLOCK_MONOTONIC, &up);
	time_t now = 946684800 + up.tv_sec % 86400;
	if (t)
		*t = now;
	return now;
}
