package policy

// operator is a decision of the evaluator that a test may turn round.
type operator uint8

// The operators.
const (
	opNone operator = iota
	opDeny
	opDefault
	opRequest
	opWho
	opSize
	opTime
	opRate
	opWeak
	opReserved
	opParent
	opWildHash
	opWildPlus
	opValue
	opDamaged
	operators
)

// ask returns yes, or its opposite if this is the operator that is turned round.
func (o operator) ask(which operator, yes bool) bool { return yes != (o == which) }
