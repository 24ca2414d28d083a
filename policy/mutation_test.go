package policy

import "testing"

// TestMutation turns the evaluator's decisions round, one at a time: what the other tests ask must notice each.
func TestMutation(t *testing.T) {
	names := [operators]string{
		opDeny: "deny wins", opDefault: "default deny", opRequest: "qos and retain", opWho: "conditions on the identity", opSize: "size",
		opTime: "time", opRate: "rate", opWeak: "denials of patterns", opReserved: "$ and wildcards", opParent: "a/# is a", opWildHash: "# asked for",
		opWildPlus: "+ asked for", opValue: "placeholders", opDamaged: "unusable names",
	}
	type trial struct {
		p    *Policy
		id   Identity
		r    Request
		want bool
	}
	var trials []trial
	for i := range 300 {
		p := compile(t, drawPolicy.Example(i))
		id := drawIdentity.Example(i)
		for k := range 6 {
			r := drawRequest.Example(i*6 + k)
			trials = append(trials, trial{p, id, r, naive(p.file, id, r)})
		}
	}
	more := compile(t, "policy everybody { allow publish a listener=x\n allow publish b rate<=1/h\n allow publish c days=mon\n allow publish d size<=5 }")
	here := Identity{Listener: "x"}
	for line, want := range map[string]bool{
		"publish a": true, "publish b": true, "publish c time=2026-01-05T10:00:00Z": true, "publish c time=2026-01-06T10:00:00Z": false,
		"publish d size=5": true, "publish d size=6": false,
	} {
		trials = append(trials, trial{more, here, ask(t, line), want})
	}
	trials = append(trials, trial{more, Identity{}, ask(t, "publish a"), false})
	acl := compileACL(t, "topic a\npattern a/b\npattern deny a/#\n")
	trials = append(trials, trial{acl, Identity{}, ask(t, "publish a/b"), false}, trial{acl, Identity{}, ask(t, "publish a"), true})
	for op := opNone; op < operators; op++ {
		wrong := 0
		for _, c := range trials {
			mutant := *c.p
			mutant.testOnlyFlip = op
			if mutant.For(c.id).Check(c.r).Allowed != c.want {
				wrong++
			}
		}
		if op == opNone && wrong > 0 || op != opNone && wrong == 0 {
			t.Errorf("%q turned round: %d of %d answers differ", names[op], wrong, len(trials))
		}
		t.Logf("%-28s %4d of %d", names[op], wrong, len(trials))
	}
}
