// Package cluster has K-means on the rows of a tensor.
//
// [KMeans] is Lloyd's algorithm with products on the tensor's device and Hamerly's bounds, which leave out rows that
// cannot change; results equal plain Lloyd's to the bit. [AutoK] chooses the number of clusters.
package cluster
