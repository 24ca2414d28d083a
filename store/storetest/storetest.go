// Package storetest is the suite that every implementation of store.Store passes.
package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/store"
	"github.com/sealmq/sealmq/topic"
	"pgregory.net/rapid"
)

// Run tests the stores that open makes. Each call of open returns an empty one.
func Run(t *testing.T, open func(t testing.TB) store.Store) {
	t.Run("Retained", func(t *testing.T) { retained(t, open) })
	t.Run("RetainedModel", func(t *testing.T) { retainedModel(t, open) })
	t.Run("DeepTopic", func(t *testing.T) { deepTopic(t, open) })
	t.Run("Queue", func(t *testing.T) { queues(t, open) })
}

func message(name, payload string) *store.Message {
	return store.NewMessage(name, []byte(payload), nil)
}

// found lists what a filter finds as "topic=payload".
func found(t testing.TB, s store.Store, filter string) []string {
	var all []string
	if err := s.Retained(filter, func(m *store.Message) bool {
		all = append(all, m.Topic+"="+string(m.Payload))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func retained(t *testing.T, open func(testing.TB) store.Store) {
	s := open(t)
	for _, name := range []string{"a", "a/b", "a/b/c", "/", "a/", "$SYS/x"} {
		if err := s.SetRetained(message(name, "1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetRetained(message("a/b", "2")); err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]string{
		"a/b":    "a/b=2",
		"a/#":    "a/=1 a/b/c=1 a/b=2 a=1",
		"+/b":    "a/b=2",
		"+/+":    "/=1 a/=1 a/b=2",
		"#":      "/=1 a/=1 a/b/c=1 a/b=2 a=1",
		"+/x":    "",
		"$SYS/#": "$SYS/x=1",
		"none":   "",
	} {
		if got := strings.Join(found(t, s, filter), " "); got != want {
			t.Errorf("%s finds %q, want %q", filter, got, want)
		}
	}
	if n := s.RetainedCount(); n != 6 {
		t.Errorf("%d topics, want 6", n)
	}
	n := 0
	if err := s.Retained("#", func(*store.Message) bool { n++; return false }); err != nil || n != 1 {
		t.Errorf("%d calls after the first said no, error %v", n, err)
	}
	for _, name := range []string{"a/b", "a/b", "never/was", "a", "/"} {
		if err := s.ClearRetained(name); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(found(t, s, "#"), " "); got != "a/=1 a/b/c=1" {
		t.Errorf("left %q", got)
	}
	if m, err := s.RetainedMessage("a/b"); m != nil || err != nil {
		t.Errorf("a cleared topic still has %v, error %v", m, err)
	}
}

// retainedModel compares with a map and topic.Match.
func retainedModel(t *testing.T, open func(testing.TB) store.Store) {
	level := rapid.SampledFrom([]string{"a", "b", "", "$x"})
	rapid.Check(t, func(r *rapid.T) {
		s, model := open(t), map[string]string{}
		defer s.Close()
		for i := range rapid.IntRange(1, 60).Draw(r, "steps") {
			name := strings.Join(rapid.SliceOfN(level, 1, 4).Draw(r, "topic"), "/")
			if name == "" {
				continue
			}
			if rapid.Bool().Draw(r, "clear") {
				delete(model, name)
				if err := s.ClearRetained(name); err != nil {
					r.Fatal(err)
				}
			} else {
				model[name] = fmt.Sprint(i)
				if err := s.SetRetained(message(name, model[name])); err != nil {
					r.Fatal(err)
				}
			}
			filter := strings.Join(rapid.SliceOfN(rapid.OneOf(level, rapid.Just("+")), 1, 4).Draw(r, "filter"), "/")
			if rapid.Bool().Draw(r, "hash") {
				filter += "/#"
			}
			if topic.ValidFilter(filter) != nil {
				continue
			}
			var want []string
			for name, payload := range model {
				if topic.Match(filter, name) {
					want = append(want, name+"="+payload)
				}
			}
			slices.Sort(want)
			if got := found(t, s, filter); !slices.Equal(got, want) {
				r.Fatalf("%q finds %q, want %q", filter, got, want)
			}
			if s.RetainedCount() != len(model) {
				r.Fatalf("%d topics, want %d", s.RetainedCount(), len(model))
			}
		}
	})
}

// deepTopic holds the longest topic there can be, and filters as deep.
func deepTopic(t *testing.T, open func(testing.TB) store.Store) {
	s := open(t)
	deep := strings.Repeat("/", topic.MaxLen)
	if err := s.SetRetained(message(deep, "x")); err != nil {
		t.Fatal(err)
	}
	if got := found(t, s, "#"); len(got) != 1 {
		t.Errorf("# finds %d", len(got))
	}
	if got := found(t, s, strings.Repeat("+/", topic.MaxLen/2)+"#"); len(got) != 1 {
		t.Errorf("a deep filter finds %d", len(got))
	}
	if err := s.ClearRetained(deep); err != nil {
		t.Fatal(err)
	}
	if got := found(t, s, "#"); len(got) != 0 {
		t.Errorf("# still finds %d", len(got))
	}
}

func queues(t *testing.T, open func(testing.TB) store.Store) {
	s := open(t)
	q, err := s.OpenQueue("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := q.Front(); ok || q.Len() != 0 || q.Bytes() != 0 {
		t.Error("a new queue is not empty")
	}
	rapid.Check(t, func(r *rapid.T) {
		for q.Len() > 0 {
			q.Pop()
		}
		var model []store.Item
		for i := range rapid.IntRange(1, 200).Draw(r, "steps") {
			if rapid.IntRange(0, 2).Draw(r, "step") == 0 {
				q.Pop()
				if len(model) > 0 {
					model = model[1:]
				}
			} else {
				it := store.Item{Message: message("t", fmt.Sprint(i)), QoS: 1}
				model = append(model, it)
				if err := q.Push(it); err != nil {
					r.Fatal(err)
				}
			}
			var bytes int64
			for _, it := range model {
				bytes += it.Message.Size()
			}
			if q.Len() != len(model) || q.Bytes() != bytes {
				r.Fatalf("%d items of %d bytes, want %d of %d", q.Len(), q.Bytes(), len(model), bytes)
			}
			if it, ok := q.Front(); ok != (len(model) > 0) || ok && it.Message != model[0].Message {
				r.Fatalf("front is %v, %v", it.Message, ok)
			}
		}
	})
	if err := q.Push(store.Item{Message: message("t", "kept")}); err != nil {
		t.Fatal(err)
	}
	again, err := s.OpenQueue("a")
	if err != nil || again.Len() != q.Len() {
		t.Errorf("opened again it has %d items, error %v", again.Len(), err)
	}
	if err := s.DropQueue("a"); err != nil {
		t.Fatal(err)
	}
	if q, err = s.OpenQueue("a"); err != nil || q.Len() != 0 {
		t.Errorf("after it was dropped it has %d items, error %v", q.Len(), err)
	}
}
