// Two worker processes, as many as gunicorn has.
import nodeCluster from 'node:cluster'

export function cluster(serve) {
  if (nodeCluster.isPrimary) {
    nodeCluster.fork()
    nodeCluster.fork()
    nodeCluster.on('exit', () => process.exit(1))
    process.on('SIGTERM', () => process.exit(0))
  } else {
    process.on('disconnect', () => process.exit(0))
    serve(Number(process.env.PORT))
  }
}
