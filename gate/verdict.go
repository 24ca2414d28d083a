package gate

// Verdict says whether a connection may begin, and if not, why.
type Verdict uint8

// The verdicts. Those of a level stand in one order: rate, open connections, handshakes, connections before CONNECT.
const (
	Admitted Verdict = iota
	Banned
	Overloaded
	AddressRate
	AddressConnections
	AddressHandshakes
	AddressConnects
	NetworkRate
	NetworkConnections
	NetworkHandshakes
	NetworkConnects
	TotalRate
	TotalConnections
	TotalHandshakes
	TotalConnects

	verdictCount
)

// verdictTexts are a word for counters and logs, and what to do.
var verdictTexts = [verdictCount]struct{ word, hint string }{
	Admitted:           {"admitted", ""},
	Banned:             {"banned", "sealmq gate list says who is kept out and why; sealmq gate unban ends a ban"},
	Overloaded:         {"overloaded", "memory is short: raise GOMEMLIMIT or gate.memory_limit if the machine has more"},
	AddressRate:        {"address_rate", "raise gate.address_rate, or name a gateway in gate.exempt"},
	AddressConnections: {"address_connections", "raise gate.address_connections, or name a gateway in gate.exempt"},
	AddressHandshakes:  {"address_handshakes", "raise gate.address_handshakes, or name a gateway in gate.exempt"},
	AddressConnects:    {"address_connects", "raise gate.address_connects, or name a gateway in gate.exempt"},
	NetworkRate:        {"network_rate", "raise gate.network_rate, or name the network in gate.exempt"},
	NetworkConnections: {"network_connections", "raise gate.network_connections, or name the network in gate.exempt"},
	NetworkHandshakes:  {"network_handshakes", "raise gate.network_handshakes, or name the network in gate.exempt"},
	NetworkConnects:    {"network_connects", "raise gate.network_connects, or name the network in gate.exempt"},
	TotalRate:          {"total_rate", "raise gate.total_rate if the machine can bear more"},
	TotalConnections:   {"total_connections", "raise gate.total_connections if the machine can bear more"},
	TotalHandshakes:    {"total_handshakes", "raise gate.total_handshakes if there is memory for more"},
	TotalConnects:      {"total_connects", "raise gate.total_connects if there is memory for more"},
}

// String is the verdict in one word, for counters and logs.
func (v Verdict) String() string {
	if v >= verdictCount {
		return "unknown"
	}
	return verdictTexts[v].word
}

// Hint says what an operator can do about it.
func (v Verdict) Hint() string {
	if v >= verdictCount {
		return ""
	}
	return verdictTexts[v].hint
}
