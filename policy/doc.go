// Package policy is the language that says who may do what, and the evaluator of it.
//
//	file, err := policy.Parse("sealmq.policy", text)
//	p, err := policy.Compile(file)
//	perms := p.For(identity)                       // once for a connection
//	ok := perms.May(auth.Publish, "dt/pump-17/temp", 1, false)
//
// Nothing is allowed that no rule allows; a rule that denies wins over all that allow; the order of rules says nothing.
// A subscription is allowed if one rule's filter contains it, and what is delivered is checked again. ParseMosquitto reads
// Mosquitto's ACL files into the same form, Explain tells why, Lint what looks wrong, Diff what a change changes, Test
// whether the file's own assertions hold. docs/handbook/policy.md is the language, DESIGN.md the evaluator.
//
// The package starts no goroutine, reads no file but the system's time zones, and logs nothing. A Policy never changes; a
// Live leads from one to the next. All methods may be called from any goroutine.
package policy
