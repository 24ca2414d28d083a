package topic_test

import (
	"fmt"

	"github.com/sealmq/sealmq/topic"
)

func ExampleIndex() {
	type session struct{ client string }
	x := topic.NewIndex[session]()
	ref := x.Insert("fleet/+/engine/#", &session{"workshop"})
	x.Insert("fleet/truck-17/engine", &session{"driver"})

	matches := x.Lookup([]byte("fleet/truck-17/engine"))
	for _, set := range matches.Sets() {
		for s := range set.Each {
			fmt.Println(s.client, "by", set.Filter())
		}
	}
	x.Remove(ref)
	fmt.Println(x.Len())
	// Unordered output:
	// workshop by fleet/+/engine/#
	// driver by fleet/truck-17/engine
	// 1 1
}
