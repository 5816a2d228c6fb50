package netset_test

import (
	"fmt"
	"net/netip"

	"picket/internal/netset"
)

func ExampleAddrs() {
	block := netset.FromPrefix(netip.MustParsePrefix("10.0.0.0/24"))
	except := netset.FromPrefix(netip.MustParsePrefix("10.0.0.128/25"))
	peers := block.Subtract(except)
	fmt.Println(peers, peers.Contains(netip.MustParseAddr("10.0.0.200")))
	// Output: 10.0.0.0/25 false
}

func ExampleNewPartition() {
	wide := netset.FromPrefix(netip.MustParsePrefix("0.0.0.0/0"))
	narrow := netset.FromPrefix(netip.MustParsePrefix("0.0.0.0/1"))
	for _, b := range netset.NewPartition([]netset.Addrs{wide, narrow}).Blocks {
		fmt.Println(b.Addrs, b.Members)
	}
	// Output:
	// 0.0.0.0/1 [0 1]
	// 128.0.0.0/1 [0]
	// ::/0 []
}

func ExampleTraffic() {
	web := netset.Ports(netset.TCP, 80, 80).Union(netset.Ports(netset.TCP, 443, 443))
	dns := netset.Ports(netset.UDP, 53, 53)
	fmt.Println(web.Union(dns))
	fmt.Println(netset.AllTraffic().Subtract(web))
	// Output:
	// tcp/80,443 udp/53
	// all except tcp/80,443
}
