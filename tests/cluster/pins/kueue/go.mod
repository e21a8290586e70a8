// Kueue's definitions, by which objects of the platform's chart are checked. Nothing of it is compiled.
module gptrun.io/tests/cluster/pins/kueue

go 1.24.0

require sigs.k8s.io/kueue v0.19.2
