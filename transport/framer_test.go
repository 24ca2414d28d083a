package transport

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// records builds a stream of records with these payload lengths.
func records(lengths []int) []byte {
	var b []byte
	for _, n := range lengths {
		b = append(b, 23, 3, 3, byte(n>>8), byte(n))
		b = append(b, make([]byte, n)...)
	}
	return b
}

// However the stream is cut, advance counts the same records.
func TestFramerCountsRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(0, 700), 0, 20).Draw(t, "lengths")
		stream := records(lengths)
		var f framer
		for len(stream) > 0 {
			n := rapid.IntRange(1, min(len(stream), 900)).Draw(t, "piece")
			f.advance(stream[:n])
			stream = stream[n:]
		}
		if int(f.whole) != len(lengths) || f.hdr != 0 || f.left != 0 {
			t.Fatalf("%+v after %d records", f, len(lengths))
		}
	})
}

// cut never takes more than allowed nor nothing, stops at a boundary if it
// passes one, and keeps the count.
func TestFramerCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(0, 700), 1, 20).Draw(t, "lengths")
		stream := records(lengths)
		ends := map[int]bool{}
		at := 0
		for _, n := range lengths {
			at += recordHeader + n
			ends[at] = true
		}
		var f framer
		for pos := 0; pos < len(stream); {
			window := rapid.IntRange(1, len(stream)-pos).Draw(t, "window")
			limit := rapid.IntRange(1, 1200).Draw(t, "limit")
			n := f.cut(stream[pos:pos+window], limit)
			if n < 1 || n > limit || n > window {
				t.Fatalf("cut %d of %d, limit %d", n, window, limit)
			}
			if window > limit && !ends[pos+n] {
				for i := 1; i <= n; i++ {
					if ends[pos+i] {
						t.Fatalf("cut at %d, boundary at %d", pos+n, pos+i)
					}
				}
			}
			pos += n
		}
		if int(f.whole) != len(lengths) {
			t.Fatalf("%d records counted of %d", f.whole, len(lengths))
		}
	})
}

func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var want []byte
		next := byte(0)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "push") {
				p := make([]byte, rapid.SampledFrom([]int{1, 100, 4096, 4097, 70_000, 200_000}).Draw(t, "size"))
				for i := range p {
					next++
					p[i] = next
				}
				q.push(p)
				want = append(want, p...)
			} else if f := q.front(); len(f) > 0 {
				n := rapid.IntRange(0, len(f)).Draw(t, "pop")
				if !bytes.Equal(f, want[:len(f)]) {
					t.Fatal("front differs")
				}
				q.pop(n)
				want = want[n:]
			}
			if q.size != len(want) {
				t.Fatalf("size %d, want %d", q.size, len(want))
			}
		}
		for q.size > 0 {
			f := q.front()
			if !bytes.Equal(f, want[:len(f)]) {
				t.Fatal("front differs")
			}
			q.pop(len(f))
			want = want[len(f):]
		}
		if q.head != nil || q.tail != nil {
			t.Fatal("an empty queue holds memory")
		}
	})
}
