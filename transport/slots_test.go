package transport

import (
	"sync"
	"testing"
	"testing/synctest"
)

func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slots{free: 1}
		s.acquire(false)
		var mu sync.Mutex
		var order string
		wait := func(resumes bool, name string) {
			go func() {
				s.acquire(resumes)
				mu.Lock()
				order += name
				mu.Unlock()
				s.release()
			}()
			synctest.Wait()
		}
		wait(false, "f")
		wait(false, "g")
		for range resumedInARow + 2 {
			wait(true, "r")
		}
		if order != "" {
			t.Fatal("more than one at once")
		}
		s.release()
		synctest.Wait()
		if want := "rrrrrrrrfrrg"; order != want {
			t.Errorf("order %s, want %s", order, want)
		}
		if s.free != 1 || s.full != nil || s.resumed != nil {
			t.Errorf("%+v", s)
		}
	})
}
