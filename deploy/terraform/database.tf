# PostgreSQL for curation, with var.database. The password is in Secrets Manager, which rotates it, and never in the state.

resource "aws_db_subnet_group" "this" {
  count = var.database ? 1 : 0

  name       = var.name
  subnet_ids = [for subnet in aws_subnet.private : subnet.id]
}

resource "aws_security_group" "database" {
  count = var.database ? 1 : 0

  name        = "${var.name}-database"
  description = "PostgreSQL from the cluster's Pods"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  count = var.database ? 1 : 0

  security_group_id            = aws_security_group.database[0].id
  description                  = "PostgreSQL"
  referenced_security_group_id = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_db_instance" "this" {
  count = var.database ? 1 : 0

  identifier                  = var.name
  engine                      = "postgres"
  engine_version              = "16"
  instance_class              = var.database_class
  allocated_storage           = 20
  max_allocated_storage       = 200
  storage_type                = "gp3"
  storage_encrypted           = true
  db_name                     = "curation"
  username                    = "luthier"
  manage_master_user_password = true
  multi_az                    = true
  db_subnet_group_name        = aws_db_subnet_group.this[0].name
  vpc_security_group_ids      = [aws_security_group.database[0].id]
  backup_retention_period     = 14
  copy_tags_to_snapshot       = true
  deletion_protection         = true
  skip_final_snapshot         = false
  final_snapshot_identifier   = "${var.name}-last"
}
