// Command picket says what Kubernetes network policies really allow.
package main

func main() {}
