package transport

const recordHeader = 5 // type, version, length [RFC 8446, 5.1]

// framer follows the record boundaries of a TLS stream, so that crypto/tls is
// handed whole records: its buffer then stays as small as the largest record,
// and it is known when it holds nothing more.
type framer struct {
	whole int32  // complete records handed over and not yet counted
	left  uint16 // bytes of the record's payload still to come
	hdr   uint8  // bytes of its header seen
	hi    byte   // first byte of its length
}

// advance takes note of b.
func (f *framer) advance(b []byte) {
	for len(b) > 0 {
		if f.hdr < recordHeader {
			if f.hdr == 0 && len(b) >= recordHeader {
				f.left = uint16(b[3])<<8 | uint16(b[4])
				f.hdr = recordHeader
				b = b[recordHeader:]
			} else {
				switch f.hdr {
				case 3:
					f.hi = b[0]
				case 4:
					f.left = uint16(f.hi)<<8 | uint16(b[0])
				}
				f.hdr++
				b = b[1:]
			}
			if f.hdr < recordHeader {
				continue
			}
		}
		n := min(int(f.left), len(b))
		f.left -= uint16(n)
		b = b[n:]
		if f.left == 0 {
			f.hdr = 0
			f.whole++
		}
	}
}

// cut returns how much of b to hand over at once, at most limit and more than
// none: up to the last boundary within limit if there is one. It advances.
func (f *framer) cut(b []byte, limit int) int {
	if len(b) <= limit {
		f.advance(b)
		return len(b)
	}
	last := 0
	at := *f
	for n := 0; n < limit; {
		// One record a turn.
		step := int(at.left)
		if at.hdr < recordHeader {
			if at.hdr > 0 || len(b)-n < recordHeader {
				step = 1
			} else {
				step = recordHeader + int(b[n+3])<<8 + int(b[n+4])
			}
		}
		if n+step > limit {
			break
		}
		at.advance(b[n : n+step])
		n += step
		if at.hdr == 0 {
			last = n
			*f = at
		}
	}
	if last == 0 {
		f.advance(b[:limit])
		return limit
	}
	return last
}
