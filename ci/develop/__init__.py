"""The development loop: a saved file becomes live in the containers that run it, and nothing else happens.

    file events -> look (contents of every image) -> changes -> overlay -> container -> the worker alone restarts
                                                            \\-> environment changed -> rebuild, replace the services

A running development container should hold exactly the files that its image would hold if it were built now. That is
the *overlay*: the entries of ci.images that have a place in the image. What a container holds is read from the
container itself when it is first met (a container that was recreated, restarted or scaled up counts as new) and kept
in step afterwards; when a copy fails, it is read again. So there is no record that could disagree with what is there.

What is no file in a place (Dockerfile, locks, base images, arguments, the programs in bin/) is environment: only a
rebuild brings it in. A file that no image contains changes nothing.
"""
