package broker

// Shed sets how much of the work the broker turns away, for a program that runs out of memory or time; 0, as at the
// beginning: nothing. Each level adds to those below; others are for the program itself.
//
//   - From 1 on anonymous clients that connect are refused with 0x89 (server busy). Those that are connected stay.
//   - From 3 on a subscription is granted, but its client is not sent the retained messages, until it subscribes again.
//   - From 4 on QoS 0 publications of clients are dropped, but for those to the Service.
//
// Stats counts what it has cost. Shed may be called at any time.
func (b *Broker) Shed(level int) { b.shed.Store(int32(min(max(level, 0), maxShed))) }

// The levels of Shed.
const (
	shedAnonymous = 1
	shedRetained  = 3
	shedQoS0      = 4
	maxShed       = 1 << 16
)

// sheds reports whether a level has been reached.
func (b *Broker) sheds(level int32) bool { return b.shed.Load() >= level }
