package certs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// job is something to be fetched again and again. Guarded by Keeper.mu, but for do.
type job struct {
	key   string
	next  time.Time
	soon  bool // what is under way may be too old
	fails int
	err   error // of the last time; nil when it went well
	do    func(context.Context) (again time.Time, err error)
}

const (
	fetchTimeout = 2 * time.Minute
	fetchEvery   = time.Hour
	fetchSoonest = time.Minute
	retryFirst   = 15 * time.Second
	retryLast    = 30 * time.Minute
	fetchAtOnce  = 4 // so that a server that does not answer delays few others
)

// newClient returns a client that speaks http and https only, trusts the system's roots, and is bounded in everything.
func newClient() *http.Client {
	dial := &net.Dialer{Timeout: 10 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dial.DialContext, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 20 * time.Second,
			MaxIdleConns: 2, IdleConnTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case len(via) > 5:
				return errors.New("more than 5 redirects")
			case r.URL.Scheme != "https" && (r.URL.Scheme != "http" || via[0].URL.Scheme == "https"):
				return fmt.Errorf("redirected from %s to %s", via[0].URL.Scheme, r.URL.Scheme)
			}
			return nil
		},
	}
}

// request sends r and returns the body of 200, nil for 304. An error does not show more of the URL than host and path.
func (k *Keeper) request(r *http.Request, most int64) (body []byte, head http.Header, err error) {
	res, err := k.http.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, nil, err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotModified && (r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Modified-Since") != ""):
		return nil, res.Header, nil
	case res.StatusCode != http.StatusOK:
		return nil, nil, fmt.Errorf("the server answers %d", res.StatusCode)
	case res.ContentLength > most:
		return nil, nil, fmt.Errorf("longer than %d bytes", most)
	}
	body, err = io.ReadAll(io.LimitReader(res.Body, most+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(body)) > most {
		return nil, nil, fmt.Errorf("longer than %d bytes", most)
	}
	return body, res.Header, nil // not nil, though it may be empty
}

// runJobs does what is due until ctx ends, and waits for it.
func (k *Keeper) runJobs(ctx context.Context) {
	defer k.http.CloseIdleConnections()
	var running sync.WaitGroup
	defer running.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		j, wait := k.dueJob()
		if j != nil {
			running.Go(func() { k.runJob(ctx, j) })
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-k.fetch:
		case <-timer.C:
		}
	}
}

func (k *Keeper) runJob(ctx context.Context, j *job) {
	once, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	again, err := j.do(once)
	k.jobDone(j, again, err, ctx.Err() != nil)
	k.wakeJobs()
	k.wake(false)
}

// dueJob returns the job whose time has come, which is under way from then on, or the time until the next look. A job ends
// before another one with its key begins.
func (k *Keeper) dueJob() (*job, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, wait := k.o.Now(), fetchSoonest
	if len(k.busy) >= fetchAtOnce {
		return nil, wait
	}
	for _, j := range k.sortedJobs() {
		if k.busy[j.key] {
			continue
		}
		left := j.next.Sub(now)
		if left <= 0 {
			j.soon, k.busy[j.key] = false, true
			return j, 0
		}
		wait = min(wait, left)
	}
	return nil, wait
}

// sortedJobs are the jobs, the one that has waited longest first. The caller holds mu.
func (k *Keeper) sortedJobs() []*job {
	return slices.SortedFunc(maps.Values(k.jobs), func(a, b *job) int {
		return cmp.Or(a.next.Compare(b.next), cmp.Compare(a.key, b.key))
	})
}

// jobDone notes how a job has ended; cut short, it is as if it had not begun.
func (k *Keeper) jobDone(j *job, again time.Time, err error, short bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.busy, j.key)
	if k.jobs[j.key] != j { // it is not wanted any more, but may have kept a copy
		k.dropCopies()
		return
	}
	if short {
		return
	}
	now := k.o.Now()
	j.err = err
	if err != nil {
		j.next = now.Add(min(retryFirst<<min(j.fails, 16), retryLast))
		j.fails++
	} else {
		j.fails = 0
		j.next = again
		if soonest := now.Add(fetchSoonest); j.next.Before(soonest) {
			j.next = soonest
		}
	}
	if j.soon {
		j.next = now
	}
	k.report(now)
}

// syncJobs makes the jobs those of the listeners. The caller holds mu.
func (k *Keeper) syncJobs() {
	wanted := map[string]bool{}
	add := func(key string, first func() *job) {
		wanted[key] = true
		if k.jobs[key] == nil {
			k.jobs[key] = first()
			k.wakeJobs()
		}
	}
	for _, w := range k.watch {
		for _, c := range w.spec.CRLs {
			if isURL(c) {
				add("crl "+c, func() *job { return k.listJob(c) })
			}
		}
		for i, c := range w.m.pairs {
			if s := w.m.staples[i]; s != nil {
				add("ocsp "+s.id, func() *job { return k.stapleJob(c, s) })
			}
		}
	}
	maps.DeleteFunc(k.jobs, func(key string, _ *job) bool { return !wanted[key] })
	maps.DeleteFunc(k.staples, func(id string, _ *staple) bool { return !wanted["ocsp "+id] })
}

// hurry makes the lists of a listener due at once, since it has other CAs. The caller holds mu.
func (k *Keeper) hurry(w *watched) {
	for _, c := range w.spec.CRLs {
		if j := k.jobs["crl "+c]; j != nil {
			j.next, j.fails, j.soon = time.Time{}, 0, true
		}
	}
	k.wakeJobs()
}

func (k *Keeper) wakeJobs() {
	select {
	case k.fetch <- struct{}{}:
	default:
	}
}
