import matplotlib.pyplot as plt
import networkx as nx

G = nx.karate_club_graph()
print("shortest", nx.shortest_path(G, 0, 33))
print("communities", len(nx.community.greedy_modularity_communities(G)))
print("top", max(nx.pagerank(G).items(), key=lambda item: item[1])[0])
plt.figure(figsize=(6, 6))
nx.draw(G, nx.spring_layout(G, seed=1), with_labels=True, node_color="lightblue")
plt.savefig("graph.png")
nx.write_gexf(G, "graph.gexf")
nx.write_graphml(G, "graph.graphml")
print("read", nx.read_graphml("graph.graphml").number_of_edges() == G.number_of_edges())
